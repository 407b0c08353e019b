"""Break runs in every way that is known to lose work, and count how often nothing was lost.

    python benchmark/faults.py             the whole campaign, a quarter of an hour on one core
    python benchmark/faults.py --quick     a part of it, a minute or two

Prints a table promise / tried / held; exit code 1 if a promise was broken. A network of 2 channels
trains on 28 images. "Identical" compares the weights, the optimizer, all other state and the
metrics (apart from their timing) with those of a run that nothing disturbed.
"""

from __future__ import annotations

import os
import random
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

if __name__ == "__main__":  # from any folder
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import torch

from benchmark.command import Parser, run
from benchmark.fault import argument, damage, disk, kill, loading, micro_run
from benchmark.fault.kill import Finding
from util.signals import STOP_SIGNALS


class Extent(NamedTuple):
    """How often each fault is tried; the meaning of each number is in the table's first column."""

    epochs: int
    kills: int
    kills_in_save: int
    signals: int
    double_signals: int
    loading_errors: int
    changes: int
    deletions: int
    starts: int
    bit_flips: int
    pages: int
    disk_kibibytes: tuple[int, ...]
    shared_kibibytes: tuple[int, ...]
    open_files: tuple[int, ...]
    argument_lists: int


FULL = Extent(
    epochs=3, kills=25, kills_in_save=25, signals=20, double_signals=8, loading_errors=12,
    changes=5, deletions=5, starts=8, bit_flips=400, pages=100,
    disk_kibibytes=(64, 300, 500, 600, 650, 700), shared_kibibytes=(4, 16, 32, 64, 96),
    open_files=tuple(range(1, 17)), argument_lists=2000,
)  # fmt: skip
QUICK = Extent(
    epochs=2, kills=5, kills_in_save=5, signals=4, double_signals=1, loading_errors=3,
    changes=1, deletions=1, starts=3, bit_flips=20, pages=10,
    disk_kibibytes=(700,), shared_kibibytes=(64,), open_files=(13,), argument_lists=60,
)  # fmt: skip


class Row(NamedTuple):
    """A line of the table."""

    promise: str
    tried: int
    held: int


def main(argv: list[str] | None = None) -> int:
    """Run the campaign and print its table; returns the exit code."""
    args = get_parser().parse_args(argv)
    torch.set_num_threads(1)  # before anything is computed: what follows is forked from here
    # A data set that is not there must be refused, not fetched.
    os.environ.update(http_proxy="http://127.0.0.1:9", https_proxy="http://127.0.0.1:9")
    work = Path(tempfile.mkdtemp(prefix="faults-"))
    try:
        rows = list(campaign(work, QUICK if args.quick else FULL, args.seed))
    finally:
        shutil.rmtree(work, ignore_errors=True)
    print(table(rows))
    return 0 if all(row.held == row.tried for row in rows) else 1


def get_parser() -> Parser:
    """The flags of the campaign."""
    parser = Parser(__doc__)
    parser.add_argument("--quick", action="store_true", help="a part of the campaign")
    parser.add_argument(
        "--seed", type=int, default=0, help="of all that is chosen at random (default: %(default)s)"
    )
    return parser


def generator(seed: int, kind: str, number: int = 0) -> random.Random:
    """What one trial chooses by, whatever the others drew: that depends on the clock."""
    return random.Random(f"{seed} {kind} {number}")


def campaign(work: Path, extent: Extent, seed: int) -> Iterator[Row]:
    """Every fault in turn."""
    command = [*micro_run.ARGUMENTS, "--num_epoch", str(extent.epochs)]
    unbroken = kill.unbroken_run(work, command)
    again = partial(kill.unbroken_run, work, command)
    scene, choose = (work, unbroken), partial(generator, seed)

    yield tally(
        "undisturbed, twice: identical",
        [None if again().outcome == unbroken.outcome else "two undisturbed runs differ"],
    )
    yield tally(
        "kill -9 at any moment, same command again: identical",
        (kill.kill_at_random(*scene, choose("kill", i)) for i in range(extent.kills)),
    )
    yield tally(
        "kill -9 inside a save, same command again: identical",
        (kill.kill_in_save(*scene, choose("save", i)) for i in range(extent.kills_in_save)),
    )
    yield tally(
        "SIGINT, SIGTERM, SIGUSR1, SIGHUP: saved, exit code 128 + signal; resumed with other "
        "num_workers: identical",
        (
            kill.stop_by_signal(*scene, choose("signal", i), signal_number(i))
            for i in range(extent.signals)
        ),
    )
    yield tally(
        "the signal twice: ends at once; resumed: identical",
        (
            kill.stop_by_two_signals(*scene, choose("signals", i), signal_number(i))
            for i in range(extent.double_signals)
        ),
    )
    yield from loading_rows(scene, extent, choose)
    yield tally(
        "run folder deleted: one sentence with its path, exit code 1",
        (kill.delete_folder(*scene, choose("delete", i)) for i in range(extent.deletions)),
    )
    yield tally(
        "same command started at the same moment: a folder each, identical",
        kill.start_together(*scene, extent.starts),
    )
    yield tally(
        "--resume auto started at the same moment: one goes on, the others are refused",
        kill.resume_together(*scene, extent.starts),
    )
    yield from damage_rows(work, command, extent, seed)
    yield from disk_rows(work, unbroken, extent)
    lists = (work / "arguments", extent.argument_lists, choose("arguments"))
    yield tally(
        "random arguments: exit code 0 or 2, one sentence, no traceback, no folder left",
        (finding for _, finding in argument.argument_trials(*lists)),
    )


def loading_rows(
    scene: tuple[Path, kill.Unbroken],
    extent: Extent,
    choose: Callable[[str, int], random.Random],
) -> Iterator[Row]:
    """Failures around the data."""
    yield tally(
        "an unreadable image, a mistake or kill -9 in a process that loads data: all end, with one "
        "sentence (a mistake: a traceback); resumed: identical",
        (
            loading.fail_while_loading(*scene, choose("loading", i), i)
            for i in range(extent.loading_errors)
        ),
    )
    yield tally(
        "few open files: one sentence; resumed with more: identical",
        (loading.open_few_files(*scene, more) for more in extent.open_files),
    )
    yield tally(
        "other training images or classes at the resume: refused, exit code 2; the same again: "
        "identical",
        (loading.change_data(*scene, choose("changed", i)) for i in range(extent.changes)),
    )


def damage_rows(work: Path, command: list[str], extent: Extent, seed: int) -> Iterator[Row]:
    """Damaged and hostile files in place of last.pt."""
    finished = damage.finished_run(work, command)
    good = (finished.folder / "good").read_bytes()
    bits, pages = generator(seed, "bits"), generator(seed, "pages")
    damages = {
        "last.pt cut at k/16": list(damage.truncations(good)),
        "one bit of last.pt flipped": damage.bit_flips(good, extent.bit_flips, bits),
        "one page of last.pt zeroed": damage.zeroed_pages(good, extent.pages, pages),
    }
    for name, files in damages.items():
        yield tally(
            f"{name}: reported, the checkpoint before is used",
            (damage.go_on_after(finished, content) for content in files),
        )
    yield tally(
        "last.pt cut at k/16, named by --resume or --evaluate: refused, exit code 2",
        (damage.refused_by_name(finished, content) for content in damage.truncations(good)),
    )
    mark = work / "executed"
    yield tally(
        "malicious pickles (five, in three kinds of file): nothing runs, refused",
        (
            harmless(finished, content, mark)
            for evil in damage.malicious_objects(str(mark)).values()
            for content in damage.malicious_files(evil).values()
        ),
    )


def harmless(finished: damage.Finished, content: bytes, mark: Path) -> Finding:
    """Whether a hostile file is refused by every flag, and nothing in it runs."""
    finding = damage.go_on_after(finished, content) or damage.refused_by_name(finished, content)
    return "code in the file was executed" if mark.exists() else finding


def disk_rows(work: Path, unbroken: kill.Unbroken, extent: Extent) -> Iterator[Row]:
    """Full and read-only disks and little shared memory, where users may make them."""
    sizes = extent.disk_kibibytes, extent.shared_kibibytes
    findings = disk.disk_trials(work, unbroken, *sizes)
    if not findings:
        print("this system has no user namespaces: disks were not tried", file=sys.stderr)
        return
    yield tally(
        "disk full (1 MB and less): one sentence; what was saved, resumed elsewhere: identical",
        findings["full"],
    )
    yield tally(
        "little shared memory (96 KiB and less): one sentence; resumed with more: identical",
        findings["shared memory"],
    )
    yield tally("read-only disk: one sentence, exit code 2", findings["read-only"])


def signal_number(index: int) -> int:
    """Each signal in turn."""
    return STOP_SIGNALS[index % len(STOP_SIGNALS)]


def tally(promise: str, findings: Iterable[Finding]) -> Row:
    """Count the findings; what was found instead of the promise goes to stderr at once."""
    tried = held = 0
    for finding in findings:
        tried += 1
        held += finding is None
        if finding is not None:
            print(f"NOT HELD: {promise}: {finding}", file=sys.stderr)
    print(f"{held} of {tried} held: {promise}", file=sys.stderr, flush=True)
    return Row(promise, tried, held)


def table(rows: list[Row]) -> str:
    """The campaign as a markdown table."""
    lines = [f"| {row.promise} | {row.tried} | {row.held} |" for row in rows]
    return "\n".join(["| promise | tried | held |", "|--|--:|--:|", *lines])


if __name__ == "__main__":
    raise SystemExit(run(main))
