"""Check and time everything on one GPU, in parts that cannot spoil each other.

    python -m benchmark.speed.gpu                              stops itself after 6 minutes
    python -m benchmark.speed.gpu --only kernels steps         some parts
    python -m benchmark.speed.gpu --device cpu --size small    the same in little, to try it

Each part is a process of its own with a time limit of its own. It is printed and written, to gpu.md
and gpu.json, the moment it ends; what it had found when it failed or ran out of time is kept. The
exit status is 1 if a part did not finish or found something wrong. Goals that were reached or
missed stand at the head of gpu.md, and are printed at the end; they leave the exit status alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmark.speed.command import Parser, command_line, device, run
from benchmark.speed.measure import machine_in_words
from benchmark.speed.part import (
    bandwidth,
    branches,
    epoch,
    growth,
    kernels,
    large,
    network,
    shares,
    steps,
    training,
)
from benchmark.speed.part.apart import perform_part
from benchmark.speed.part.finding import Finding, all_is_well, findings_as_markdown
from benchmark.speed.part.goal import all_verdicts
from benchmark.speed.part.setting import SIZES, Setting
from experiment.flag.kinds import Real
from util.figure import as_utf8
from util.file.atomic import write_atomically
from util.file.record import write_json


class Part(NamedTuple):
    """What is checked or measured, how; seconds that it takes on an H100, by estimate, and after
    which it is stopped."""

    text: str
    find: Callable[[Setting], Iterator[Finding]]
    expected: int
    limit: int


UNREPEATABLE = "Training steps with cudnn.benchmark, without deterministic engines"
PARTS = {  # by worth; what is expected adds up to less than MINUTES
    "kernels": Part("Kernels against float64", kernels.find, 30, 60),
    "network": Part("A network against two-stage training", network.find, 12, 40),
    "steps": Part("Training steps", steps.find, 60, 90),
    "epoch": Part("Epochs end to end", epoch.find, 40, 60),
    "large": Part("Large images, the largest batch", large.find, 45, 75),
    "branches": Part("Branches, in several ways", branches.find, 40, 60),
    "bandwidth": Part("Bandwidth of the kernels", bandwidth.find, 10, 25),
    "shares": Part("Where a step's time goes", shares.find, 15, 30),
    "growth": Part("Cost against T", growth.find, 35, 60),
    "training": Part("Whole runs, with a graph and without", training.find, 40, 75),
    "steps_unrepeatable": Part(UNREPEATABLE, steps.find_unrepeatable, 30, 60),
}
MINUTES = 6


def get_parser() -> Parser:
    parser = Parser(__doc__)
    add = parser.add_argument
    names = list(PARTS)
    text = f"any of {', '.join(names)}; default: all, in this order"
    add("--only", nargs="+", choices=names, default=names, metavar="PART", help=text)
    text = "for all parts together; later ones are left out (default: %(default)s)"
    add("--minutes", type=Real(0, 1e4, open_low=True), default=MINUTES, help=text)
    text = "cuda: the first that CUDA_VISIBLE_DEVICES leaves; cpu: graphs are replayed by a "
    text += "stand-in, and times mean nothing (default: %(default)s)"
    add("--device", type=device, choices=("cuda", "cpu"), default="cuda", help=text)
    text = "full: resnet18, B 128, T 6; small: narrow, for a CPU (default: %(default)s)"
    add("--size", choices=SIZES, default="full", help=text)
    text = "for gpu.md, gpu.json, and what each part has printed (default: %(default)s)"
    parser.add_output(text, Path("benchmark-result", "gpu"))
    return parser


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Run the parts; returns what gpu.json holds.

    Raises: SystemExit with code 1 if a part did not finish or found something wrong.
    """
    parser = get_parser()
    args = parser.parse_args(argv)
    folder = args.output / "part"
    parser.make_folder(folder)
    record: dict[str, Any] = {"command": command_line("gpu", argv), "machine": {}, "parts": []}
    begun = time.monotonic()
    for name in dict.fromkeys(args.only):
        now = time.monotonic()
        end = min(now + PARTS[name].limit, begun + 60 * args.minutes)
        setting = Setting(args.device, SIZES[args.size], args.output, end)
        if now < end:
            found = perform_part(PARTS[name].find, setting, folder / name)
        else:
            found = {"outcome": f"left out: the {args.minutes:g} minutes are over", "findings": []}
        found = {"part": name, **found}
        measured_on = found.pop("machine", {})
        record["machine"] = record["machine"] or measured_on
        record["parts"].append(found)
        print("\n" + section(found), flush=True)
        write_json(args.output / "gpu.json", record)
        write_atomically(args.output / "gpu.md", as_utf8(page(record)))
    print("\n" + verdicts(record))
    wrong = [part["part"] for part in record["parts"] if not is_well(part)]
    print(f"\n{time.monotonic() - begun:.0f} s; results in {args.output / 'gpu.md'} and gpu.json")
    if wrong:
        print(f"not as it should be: {', '.join(wrong)}")
        raise SystemExit(1)
    return record


def is_well(found: dict[str, Any]) -> bool:
    return found["outcome"] == "finished" and all_is_well(found["findings"])


def page(record: dict[str, Any]) -> str:
    """gpu.md: command, machine, verdicts, and a section per part."""
    head = ["# On one GPU", f"    {record['command']}", machine_in_words(record["machine"])]
    return "\n\n".join([*head, verdicts(record), *map(section, record["parts"])]) + "\n"


def verdicts(record: dict[str, Any]) -> str:
    return f"## Goals\n\n{findings_as_markdown(all_verdicts(record['parts']))}"


def section(found: dict[str, Any]) -> str:
    name, seconds = found["part"], found.get("seconds", 0)
    paragraphs = [
        f"## {PARTS[name].text}",
        f"`--only {name}`: {found['outcome']}, {seconds:.0f} s",
        findings_as_markdown(found["findings"]),
    ]
    return "\n\n".join(filter(None, paragraphs))


if __name__ == "__main__":
    run(main)
