"""From what `main` has parsed to a finished run: devices, folder, resume, training, result."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from torch.nn.parallel import DistributedDataParallel

from experiment.engine import Data, NonFiniteError, Stopped, evaluate, fit
from experiment.recipe import Recipe
from experiment.recorder import Recorder, locked
from experiment.resume import choose_start, load_weights, restore
from experiment.training_state import TrainingState
from model import RateModel
from util.distributed import Group, process_group
from util.record import MetricsFile, write_json
from util.signals import StopRequest
from util.util import create_run_folder, environment_report, seed_everything, setup_logging


@dataclass(frozen=True)
class Request:
    """What a command asks for beside the network and the recipe.

    arguments: every flag with its value, for config.json.
    identity: those of them that decide what is computed; a run is resumed with the same only.
    """

    arguments: dict[str, Any]
    identity: dict[str, Any]
    log_path: Path
    run_name: str
    resume: str | None
    evaluate: Path | None
    device: str | None


@contextmanager
def one_sentence_errors() -> Iterator[None]:
    """What users can cause ends the program with one sentence, not with a traceback.

    Exit codes: 2 for wrong input, 1 for a run that failed, 128 + signal for one asked to stop.
    """
    try:
        yield
    except Stopped as stop:
        print(f"{stop}; go on with --resume auto", file=sys.stderr)
        raise SystemExit(stop.exit_code) from None
    except KeyboardInterrupt:
        print("interrupted at once; the newest checkpoint is whole", file=sys.stderr)
        raise SystemExit(130) from None
    except (ValueError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except (NonFiniteError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    except torch.OutOfMemoryError as error:
        print(
            f"error: the device has not enough memory ({str(error).splitlines()[0]}): try a "
            "smaller --train_batch_size, --width or --amp bf16",
            file=sys.stderr,
        )
        raise SystemExit(1) from None


def run(
    request: Request,
    recipe: Recipe,
    load_data: Callable[[], Data],
    build_network: Callable[[Data], RateModel],
) -> dict[str, Any]:
    """Train, or evaluate if the request says so; returns the final metrics."""
    with one_sentence_errors(), process_group(request.device) as group:
        seed_everything(recipe.seed)
        data = load_data()
        net = build_network(data)
        net.to(group.device, memory_format=torch.channels_last)
        check_fit(net, data, group)
        if request.evaluate is not None:
            return evaluate_file(net, data, recipe, request.evaluate, group)
        return train(request, recipe, data, net, group)


def check_fit(net: RateModel, data: Data, group: Group) -> None:
    """Pass one test image through all heads, so that what does not fit is refused at once."""
    image, _ = data.test[0]
    net.eval()
    with torch.no_grad():
        net.head_logits(data.to_input(image[None].to(group.device)))


def evaluate_file(
    net: RateModel, data: Data, recipe: Recipe, path: Path, group: Group
) -> dict[str, Any]:
    """Print and return the accuracy of every head of a checkpoint on the test set."""
    load_weights(net, path)
    result = evaluate(
        net, data.test, data.to_input, batch_size=recipe.val_batch_size,
        num_workers=recipe.num_workers, amp=recipe.amp, group=group,
    )  # fmt: skip
    if group.is_first:
        *branches, own = result["head_top1"]
        for number, accuracy in enumerate(branches, 1):
            print(f"branch {number}: top-1 {accuracy:.2f} %")
        print(f"spiking network: top-1 {own:.2f} %, top-5 {result['top5']:.2f} %, "
              f"loss {result['loss']:.4f}, {result['samples']} test images")  # fmt: skip
    return result


def train(
    request: Request, recipe: Recipe, data: Data, net: RateModel, group: Group
) -> dict[str, Any]:
    """Train in a new run folder, or in that of the run to resume; returns the final metrics."""
    state = TrainingState(net, recipe, request.identity)
    start = choose_start(request.resume, net, request.log_path, request.identity)
    folder = start.folder
    if folder is None:
        stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
        name = f"{request.run_name}_{stamp}"
        folder = group.share(create_run_folder(request.log_path, name) if group.is_first else None)
    with locked(folder) if group.is_first else nullcontext(), StopRequest() as stop:
        logger = setup_logging(folder if group.is_first else None, rank=group.rank)
        if start.checkpoints:
            restore(state, start.checkpoints, group, logger)
        if group.is_first:
            begin_folder(folder, request, state)
            logger.info(f"run folder {folder}; device {device_name(group)}")
        recorder = Recorder(
            folder if group.is_first else None, logger, keep_checkpoints=recipe.keep_checkpoints
        )
        if group.world_size > 1:
            state.forward = DistributedDataParallel(net)
        fit(state, data, recipe, group=group, recorder=recorder, stop=stop)
        recorder.close()
        result = group.share(final_metrics(folder, state) if group.is_first else None)
        logger.info(describe_result(result))
        return result


def begin_folder(folder: Path, request: Request, state: TrainingState) -> None:
    """Write config.json where there is none, and cut metrics.jsonl to what the state knows."""
    if not (folder / "config.json").exists():
        config = {
            "arguments": request.arguments,
            "identity": request.identity,
            "environment": environment_report(),
        }
        write_json(folder / "config.json", config)
    MetricsFile(folder / "metrics.jsonl").truncate_to(state.lines)


def device_name(group: Group) -> str:
    """The device as a person names it."""
    if group.device.type == "cuda":
        return f"{group.device} ({torch.cuda.get_device_name(group.device)})"
    return f"cpu ({torch.get_num_threads()} threads)"


def final_metrics(folder: Path, state: TrainingState) -> dict[str, Any]:
    """What a finished run reached, from the records of its epochs."""
    records = MetricsFile(folder / "metrics.jsonl").read()
    last, best = records[-1], records[state.best["epoch"]]
    return {
        "folder": str(folder),
        "epochs": len(records),
        "test_top1": last["test"]["top1"],
        "test_top5": last["test"]["top5"],
        "head_top1": last["test"]["head_top1"],
        "loss": last["train"]["total"],
        "best_epoch": best["epoch"],
        "best_test_top1": best["test"]["top1"],
        "best_chosen_on": "validation" if "validation" in best else "test",
    }


def describe_result(result: dict[str, Any]) -> str:
    """The final line of a run."""
    return (
        f"finished: test top-1 {result['test_top1']:.2f} % after the last epoch, "
        f"{result['best_test_top1']:.2f} % at epoch {result['best_epoch']}, the best on the "
        f"{result['best_chosen_on']} set; curves in {result['folder']}/curves.png"
    )
