"""Check and time everything on one GPU, in parts that cannot spoil each other.

    python benchmark/gpu.py                              stops itself after 5 minutes
    python benchmark/gpu.py --only kernels steps         some parts
    python benchmark/gpu.py --device cpu --size small    the same in little, to see that it works

Each part is a process of its own with a time limit of its own. It is printed and written, to gpu.md
and gpu.json, the moment it ends; what it had found when it failed or ran out of time is kept. The
exit status is 1 if a part did not finish or found something wrong.
"""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

if __name__ == "__main__":  # from any folder; and `profile.py` must not hide the standard library's
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmark.command import Parser, device, run
from benchmark.part import (
    bandwidth,
    growth,
    kernels,
    network,
    shares,
    steps,
    training,
)
from benchmark.part.apart import perform
from benchmark.part.finding import Finding, all_is_well, markdown
from benchmark.part.setting import SIZES, Setting
from experiment.flag_parser import expanded_path, number
from util.atomic_file import write_atomically
from util.record import write_json
from util.text import as_utf8


class Part(NamedTuple):
    """What is checked or measured, how, and seconds after which it is stopped."""

    text: str
    find: Callable[[Setting], Iterator[Finding]]
    seconds: int


PARTS = {  # by worth
    "kernels": Part("Kernels against float64", kernels.find, 60),
    "network": Part("A network against two-stage training", network.find, 40),
    "steps": Part("Training steps", steps.find_at_first_T, 75),
    "shares": Part("Where a step's time goes", shares.find, 40),
    "bandwidth": Part("Bandwidth of the kernels", bandwidth.find, 30),
    "training": Part("Whole runs, with a graph and without", training.find, 75),
    "steps_shorter": Part("Training steps, fewer time steps", steps.find_at_second_T, 60),
    "growth": Part("Cost against T", growth.find, 90),
    "steps_unrepeatable": Part(
        "Training steps with cudnn.benchmark, without deterministic engines",
        steps.find_unrepeatable,
        75,
    ),
}


def get_parser() -> Parser:
    parser = Parser(__doc__)
    add = parser.add_argument
    add(
        "--only",
        nargs="+",
        choices=PARTS,
        default=list(PARTS),
        metavar="PART",
        help=f"any of {', '.join(PARTS)}; default: all, in this order",
    )
    add(
        "--minutes",
        type=number(float, 0, 1e4, open_low=True),
        default=5,
        help="for all parts together; those that would begin later are left out "
        "(default: %(default)s)",
    )
    add(
        "--device",
        type=device,
        choices=("cuda", "cpu"),
        default="cuda",
        help="cuda: the first that CUDA_VISIBLE_DEVICES leaves; cpu: graphs are replayed by a "
        "stand-in, and times mean nothing (default: %(default)s)",
    )
    add(
        "--size",
        choices=SIZES,
        default="full",
        help="full: resnet18, B 128, T 6 and 4; small: narrow, for a CPU (default: %(default)s)",
    )
    add(
        "--output",
        type=expanded_path,
        default=Path("benchmark-result", "gpu"),
        metavar="FOLDER",
        help="for gpu.md, gpu.json, and what each part has printed (default: %(default)s)",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Run the parts; returns what gpu.json holds.

    Raises: SystemExit with code 1 if a part did not finish or found something wrong.
    """
    parser = get_parser()
    args = parser.parse_args(argv)
    folder = args.output / "part"
    parser.make_folder(folder)
    arguments = sys.argv[1:] if argv is None else argv
    record: dict[str, Any] = {
        "command": shlex.join(["python", "benchmark/gpu.py", *arguments]),
        "machine": {},
        "parts": [],
    }
    begun = time.monotonic()
    for name in dict.fromkeys(args.only):
        now = time.monotonic()
        end = min(now + PARTS[name].seconds, begun + 60 * args.minutes)
        setting = Setting(args.device, SIZES[args.size], args.output, end)
        if now < end:
            found = perform(PARTS[name].find, setting, folder / name)
        else:
            found = {"outcome": f"left out: the {args.minutes:g} minutes are over", "findings": []}
        found = {"part": name, **found}
        measured_on = found.pop("machine", {})
        record["machine"] = record["machine"] or measured_on
        record["parts"].append(found)
        print("\n" + section(found), flush=True)
        write_json(args.output / "gpu.json", record)
        write_atomically(args.output / "gpu.md", as_utf8(page(record)))
    wrong = [part["part"] for part in record["parts"] if not is_well(part)]
    print(f"\n{time.monotonic() - begun:.0f} s; results in {args.output / 'gpu.md'} and gpu.json")
    if wrong:
        print(f"not as it should be: {', '.join(wrong)}")
        raise SystemExit(1)
    return record


def is_well(found: dict[str, Any]) -> bool:
    return found["outcome"] == "finished" and all_is_well(found["findings"])


def page(record: dict[str, Any]) -> str:
    """gpu.md: command, machine, and a section per part."""
    described = ", ".join(f"{key} {value}" for key, value in record["machine"].items())
    sections = "\n\n".join(section(found) for found in record["parts"])
    return f"# On one GPU\n\n    {record['command']}\n\n{described}\n\n{sections}\n"


def section(found: dict[str, Any]) -> str:
    """A part as markdown."""
    name, seconds = found["part"], found.get("seconds", 0)
    paragraphs = [
        f"## {PARTS[name].text}",
        f"`--only {name}`: {found['outcome']}, {seconds:.0f} s",
        markdown(found["findings"]),
    ]
    return "\n\n".join(filter(None, paragraphs))


if __name__ == "__main__":
    run(main)
