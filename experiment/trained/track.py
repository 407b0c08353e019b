"""Is a run on track? Its test accuracy beside the published one, and where its recipe differs.

python experiment/trained/track.py runs/FOLDER     of a run in progress, too

Prints a table of the epochs of which the published accuracy is known, and draws track.png.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

if __package__ in (None, ""):  # started as a file: make the project's packages importable
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from experiment.curves import legend_above, plot_over
from experiment.flag.kinds import expanded_path
from experiment.flag.parser import FlagParser
from experiment.train.failure import one_sentence_errors
from experiment.train.folder import outcome_of
from experiment.trained.part.checkpoint_command import Results
from experiment.trained.part.published import (
    PUBLISHED,
    SOURCE,
    PublishedRun,
    recipe_differences,
)
from experiment.trained.part.recorded_run import RecordedRun, read_run
from util.figure import GRAY, GREEN, count_along, drawing, markdown_table, printable
from util.file.named_folder import refuse_unusable

HEADER = ("after epoch", "published (%)", "run (%)", "difference")


def get_parser() -> FlagParser:
    parser = FlagParser("Compare a run with the published one of its data set.")
    add = parser.add_argument
    text = "the folder of a run, which may be in progress"
    add("folder", type=expanded_path, metavar="FOLDER", help=text)
    text = "where track.png goes; default: the folder of the run"
    add("--out", type=expanded_path, metavar="FOLDER", help=text)
    return parser


def main(argv: Sequence[str] | None = None) -> list[tuple[str, ...]]:
    """Run the command line; returns the rows of the table, none for a data set without a curve.

    Raises: SystemExit with code 2 for a folder without the records of a run.
    """
    args = get_parser().parse_args(argv)
    out = args.out or args.folder
    with one_sentence_errors({}, interrupted="stopped"):
        if args.out is not None:
            refuse_unusable(out, "out")
        run = read_run(args.folder)
        if not run.records:
            raise ValueError(f"{args.folder} has no complete epoch yet")
        published = PUBLISHED.get(run.arguments["dataset"])
        rows = [] if published is None else compared(run, published)
        print(comparison_in_words(run, published, rows))
        if published is not None:
            results = Results(out, ["track.png"])
            draw_track(run, published, results.make_room() / "track.png")
            results.print_written()
    return rows


def compared(run: RecordedRun, published: PublishedRun) -> list[tuple[str, ...]]:
    """A row for each epoch of which the published accuracy is known, and one for the best."""
    own = dict(zip(*run.curve("test/top1"), strict=True))
    rows = [_row(str(epoch), top1, own.get(epoch)) for epoch, top1 in published.top1.items()]
    name, best = f"best of {published.num_epoch}", outcome_of(run.records).get("best_test_top1")
    if best is not None and len(run.records) < run.asked_epochs:
        return [*rows, (name, f"{published.best:.1f}", f"{best:.1f} so far", "")]
    return [*rows, _row(name, published.best, best)]


def _row(epoch: str, published: float, own: float | None) -> tuple[str, ...]:
    reached = ("", "") if own is None else (f"{own:.1f}", f"{own - published:+.1f}")
    return epoch, f"{published:.1f}", *reached


def comparison_in_words(
    run: RecordedRun, published: PublishedRun | None, rows: Sequence[tuple[str, ...]]
) -> str:
    """The table, what it compares, and in which flags the run differs from the paper's recipe."""
    done, asked, dataset = len(run.records), run.asked_epochs, run.arguments["dataset"]
    parts = [f"{run.folder.absolute().name}: {done} of {asked} epochs, {run.state()[0]}"]
    if published is None:
        known = ", ".join(PUBLISHED)
        parts.append(f"there is no published curve for {dataset}, only for {known}")
    else:
        parts += [f"published: {SOURCE}, test accuracy", markdown_table(HEADER, rows)]
        if asked != published.num_epoch:
            parts.append(
                f"the schedules differ: the learning rate falls to 0 over {asked} epochs here, "
                f"over {published.num_epoch} there, so that the same epoch is not the same stage"
            )
    different = recipe_differences(run.arguments)
    listed = "".join(f"\n- {each}" for each in different)
    same = "the flags are those of the paper's recipe"
    parts.append(f"flags that differ from the paper's recipe:{listed}" if different else same)
    return "\n\n".join(parts)


def draw_track(run: RecordedRun, published: PublishedRun, path: Path) -> None:
    """The two curves over the epochs."""
    with drawing(path, 8, 5) as figure:
        panel = figure.subplots()
        label = f"published (best {published.best:g} %)"
        panel.plot(*zip(*published.top1.items(), strict=True), "o--", color=GRAY, label=label)
        panel.axhline(published.best, color=GRAY, linewidth=0.8)
        plot_over(panel, *run.curve("test/top1"), color=GREEN, linewidth=1.8, label="this run")
        panel.set(title=printable(run.folder.absolute().name), ylabel="test accuracy (%)")
        panel.set(xlabel="epoch", ylim=(0, None))
        legend_above(panel)
        count_along(panel.xaxis)
        panel.grid(alpha=0.3)


if __name__ == "__main__":
    main()
