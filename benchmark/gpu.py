"""Check and time everything on one GPU: correctness, memory traffic, training steps, CUDA graphs.

    python benchmark/gpu.py                            resnet18, B 128, T 6; a few minutes
    python benchmark/gpu.py --output docs/benchmark    also writes gpu.md

Four parts, printed as they finish: kernels against their equations; a small network against the
literal two-stage training in float64; the neuron kernel's memory traffic against a plain copy's;
and the training steps. Without a GPU it says so and exits with status 2.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path

if __name__ == "__main__":  # from any folder; and `profile.py` must not hide the standard library's
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import torch
from torch import Tensor, nn

from benchmark.command import Parser, run, whole_number
from benchmark.contestant import ALP, BETA, VARIANTS, Contestant, Workload, contestants_for
from benchmark.measure import interleaved_seconds, machine, median
from benchmark.report import Row, table
from benchmark.step import measure
from experiment.cuda_graph import GraphedPass
from model import MODELS, build_model, kernel
from model.distillation import SelfDistillationLoss
from model.functional import Neuron
from tests.support.kernel_case import Case, backward_problems, cases, forward_problems
from tests.support.two_stage import TwoStageNet
from util.checkpoint import from_reference

STEPS = ("two_stage", "two_stage_bf16", "bptt", "one_pass", "one_pass_bf16_backward",
         "one_pass_bf16", "floor", "floor_bf16")  # fmt: skip
DEVICE = "cuda"


def get_parser() -> Parser:
    parser = Parser(__doc__)
    add = parser.add_argument
    add("--arch", choices=MODELS, default="resnet18", help="network (default: %(default)s)")
    add("--T", type=whole_number, default=6, help="time steps (default: %(default)s)")
    add("--batch", type=whole_number, default=128, help="samples B (default: %(default)s)")
    add("--repeats", type=whole_number, default=20, help="timed rounds (default: %(default)s)")
    add("--output", type=Path, default=None, metavar="FOLDER", help="also write gpu.md there")
    return parser


def on_gpu(function: Callable) -> Callable:
    """The function with tensors moved to the GPU on the way in and back on the way out."""

    def moving(*values, **named):
        moved = {n: v.to(DEVICE) if isinstance(v, Tensor) else v for n, v in named.items()}
        results = function(*values, **moved)
        return [None if r is None else r.cpu() for r in results]

    return moving


def kernel_report() -> str:
    """Every case of the kernel tests on the GPU; spikes may flip where rounding decides."""
    found = []
    for case, compact in product(cases((torch.float32, torch.bfloat16)), (False, True)):
        problems = forward_problems(case, on_gpu(kernel.norm_lif_rate), compact=compact)
        found += [(str(case), problem) for problem in problems]
    for last in (True, False):
        backward, options = on_gpu(kernel.norm_lif_backward), {"wants_sum": True, "fires": True}
        case = Case("soft", channels_last=last)
        for from_batch in (True, False):
            found += [
                (str(case), p)
                for p in backward_problems(case, backward, from_batch=from_batch, **options)
            ]
    lines = [f"- {case}: {problem}" for case, problem in found]
    return "\n".join(lines or ["kernels: all within twice plain PyTorch's error"])


def network_report() -> str:
    """How far gradients are from two-stage training's, in float64; and those of a graph."""
    options = {"num_classes": 5, "T": 3, "width": 8, "branch_pool": None}
    torch.manual_seed(0)
    oracle = TwoStageNet("resnet18", **options).double().to(DEVICE).train()
    net = build_model("resnet18", **options).double().to(DEVICE).train()
    net.load_state_dict(from_reference(oracle.state_dict()))
    names = from_reference({name: name for name in oracle.state_dict()})
    x = torch.randn(4, 3, 32, 32, dtype=torch.float64, device=DEVICE)
    labels = torch.randint(5, (4,), device=DEVICE)

    def take_pass(images: Tensor, labels: Tensor) -> None:
        SelfDistillationLoss(ALP, BETA)(net(images), labels).total.backward()

    SelfDistillationLoss(ALP, BETA)(oracle.train_step_logits(x), labels).total.backward()
    parameters = dict(oracle.named_parameters())
    expected = {n: parameters[names[n]].grad for n, _ in net.named_parameters()}
    take_pass(x, labels)
    lines = [f"network in float64: gradients within {worst_error(net, expected):.1e} of two-stage"]
    graphed = GraphedPass(take_pass, net, len(labels))
    for images in (torch.randn_like(x), x):  # recorded on others
        net.zero_grad()
        graphed(images, labels)
    lines.append(f"the same by a CUDA graph: within {worst_error(net, expected):.1e}")
    return "\n".join(lines)


def worst_error(net: nn.Module, expected: dict[str, Tensor]) -> float:
    """The largest relative difference of a parameter's gradient from what is expected."""
    return max(
        float((p.grad - expected[n]).norm() / expected[n].norm()) for n, p in net.named_parameters()
    )


def traffic_report(T: int, batch: int, repeats: int) -> str:
    """Bandwidth of the neuron kernel on the first stage's maps, and that of a copy."""
    maps = torch.randn(T * batch, 64, 32, 32, device=DEVICE).to(memory_format=torch.channels_last)
    values = torch.rand(64, device=DEVICE)
    lines = []
    for dtype in (torch.float32, torch.bfloat16):
        current = maps.to(dtype).unflatten(0, (T, batch))
        other = torch.empty_like(current)

        def fire(current=current) -> None:
            kernel.norm_lif_rate(current, values, values, None, T, Neuron(), overwrite=True)

        def copy(current=current, other=other) -> None:
            other.copy_(current)

        seconds = interleaved_seconds([fire, copy], repeats=repeats, warmup=3, device=DEVICE)
        sums = 3 * 4 * current[0].numel()
        moved = [2 * current.nbytes + sums, 2 * current.nbytes]
        speed = [b / median(s) / 1e9 for b, s in zip(moved, seconds, strict=True)]
        lines.append(
            f"neuron kernel, {dtype}: {speed[0]:.0f} GB/s, {100 * speed[0] / speed[1]:.0f} % of a "
            f"copy's {speed[1]:.0f} GB/s"
        )
    return "\n".join(lines)


def graphed_step(contestant: Contestant) -> Callable[[], None]:
    """A contestant's step as `--cuda_graph` takes it: forward and backward replayed."""
    images, labels = contestant.batch
    replayed = GraphedPass(
        lambda *batch: contestant.loss(*batch).backward(), contestant.net, len(labels)
    )

    def step() -> None:
        contestant.optimizer.zero_grad(set_to_none=True)
        replayed(images, labels)
        contestant.optimizer.step()

    return step


def step_report(contestants: list[str], workload: Workload, repeats: int) -> str:
    """Table of training steps, then the same steps replayed as CUDA graphs."""
    rows = measure(contestants, workload, repeats=repeats, warmup=5)
    names = ("one_pass", "one_pass_bf16")
    graphs = [graphed_step(Contestant(VARIANTS[name], workload)) for name in names]
    seconds = interleaved_seconds(graphs, repeats=repeats, warmup=2, device=DEVICE)
    for name, own in zip(names, seconds, strict=True):
        rows.append(
            Row(f"{name}_graph", f"{VARIANTS[name].text}, CUDA graph", workload.branches,
                workload.T, workload.batch, median(own), None, None)
        )  # fmt: skip
    setting = "with" if workload.branches else "without"
    return f"T = {workload.T}, B = {workload.batch}, {setting} branches\n\n{table(rows)}"


def main(argv: list[str] | None = None) -> str:
    parser = get_parser()
    args = parser.parse_args(argv)
    if not torch.cuda.is_available():
        parser.error("there is no GPU here that torch can use")
    parser.make_folder(args.output)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    start = time.perf_counter()
    parts = [", ".join(f"{key} {value}" for key, value in machine(DEVICE).items())]
    print(parts[0], flush=True)
    contestants = contestants_for(args.arch, STEPS)
    workloads = [
        Workload(args.arch, args.T, args.batch, branches, device=DEVICE)
        for branches in (False, True)
    ]
    for make in (
        kernel_report,
        network_report,
        lambda: traffic_report(args.T, args.batch, args.repeats),
        *(lambda w=w: step_report(contestants, w, args.repeats) for w in workloads),
    ):
        parts.append(make())
        print(f"\n{parts[-1]}", flush=True)
        text = "\n\n".join(parts) + "\n"
        parser.write(args.output, {"gpu.md": text.encode()})  # so far: the next part may fail
    print(f"\n{time.perf_counter() - start:.0f} s")
    return text


if __name__ == "__main__":
    run(main)
