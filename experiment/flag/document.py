"""The tables of all flags in docs/flags.md, written by `python -m experiment.flag.document`."""

from __future__ import annotations

from pathlib import Path

from experiment.flag.kinds import Number, OneOf, Switch
from experiment.flag.lookup import EXPERIMENTS, flags_of_experiment
from experiment.flag.parser import FlagParser
from experiment.flag.row import IDENTITY, Flag, Role
from experiment.flag.table import SHARED
from util.figure import as_utf8, markdown_table
from util.file.atomic import write_atomically

FILE = Path(__file__).parents[2] / "docs" / "flags.md"
HEAD = "# Flags of the training commands"
START = """Made from the tables of flags by `python -m experiment.flag.document`. Defaults are the
paper's. A switch has an opposite, `--no-` before its name. A new flag is a row of
`experiment/flag/table.py`, or of one experiment's `config/config.py`, and its use:
`recipe.NAME` for one of training. What a flag decides:"""


def flags_document() -> str:
    roles = "\n".join(f"- {role.name.lower()}: {role.value}" for role in Role)
    *others, last = (role.name.lower() for role in IDENTITY)
    resumed = f"A run is resumed with the same flags of {', '.join(others)} and {last}."
    tables = {name: {f.name: f for f in flags_of_experiment(name)} for name in EXPERIMENTS}
    sections = [HEAD, START, roles, resumed]
    for group, rows in SHARED.items():
        found = [{name: tables[name][row.name] for name in EXPERIMENTS} for row in rows]
        sections += [f"## All experiments: {group}", flag_table(found)]
    for name, table in tables.items():
        for group in dict.fromkeys(flag.group for flag in table.values()):
            if group not in SHARED:
                found = [{name: flag} for flag in table.values() if flag.group == group]
                sections += [f"## {name}: {group}", flag_table(found)]
    silent = markdown_table(("why", "flags without effect"), silent_flags(tables), left=2)
    return "\n\n".join([*sections, "## Without effect", silent]) + "\n"


def flag_table(found: list[dict[str, Flag]]) -> str:
    """One line for each flag, which several experiments may have with other defaults."""
    lines = []
    for flags in found:
        flag = next(iter(flags.values()))
        values = in_each({name: values_of(flag) for name, flag in flags.items()})
        default = in_each({name: default_of(flag) for name, flag in flags.items()})
        text = flag.text.replace("%(default)s", str(flag.default))
        lines.append((f"`--{flag.name}`", values, default, flag.role.name.lower(), text))
    return markdown_table(("flag", "value", "default", "decides", "what it is"), lines, left=5)


def values_of(flag: Flag) -> str:
    """What may follow a flag."""
    if isinstance(flag.kind, Switch):
        return "switch"
    if isinstance(flag.kind, OneOf):
        return ", ".join(flag.kind.names)
    return flag.unit or ("number" if isinstance(flag.kind, Number) else "text")


def default_of(flag: Flag) -> str:
    """The default in words; of None the help says what it means."""
    if isinstance(flag.default, bool):
        return "on" if flag.default else "off"
    return "" if flag.default is None else str(flag.default)


def in_each(texts: dict[str, str]) -> str:
    """What holds in each experiment, once if it is the same in all."""
    if len(set(texts.values())) == 1:
        return next(iter(texts.values()))
    return "; ".join(f"{name}: {text}" for name, text in texts.items())


def silent_flags(tables: dict[str, dict[str, Flag]]) -> list[tuple[str, str]]:
    """Every reason for which flags have no effect, with their names."""
    found: dict[str, dict[str, None]] = {}
    for table in tables.values():
        for flag in table.values():
            for condition in flag.idle:
                found.setdefault(condition.reason, {})[f"`--{flag.name}`"] = None
    return [(reason, ", ".join(names)) for reason, names in found.items()]


if __name__ == "__main__":
    FlagParser("Write docs/flags.md anew from the tables of flags.").parse_args()
    write_atomically(FILE, as_utf8(flags_document()))
