"""Every flag of every command that takes a path expands ~ and refuses an unset variable."""

import argparse
import re
from importlib import import_module
from pathlib import Path

import pytest

from experiment.flag.parser import FlagParser
from tests.support.commands import COMMANDS

PATH = re.compile(r"\b(FILE|FOLDER|CHECKPOINT|NETWORK)\b|(^|_)(path|out|output|plan|measured)$")


class Parsed(Exception):
    """Instead of a parsed command line: its parser."""


def parser_of(command, monkeypatch):
    def stop(parser, *args):
        raise Parsed(parser)

    monkeypatch.setattr(FlagParser, "parse_args", stop)
    with pytest.raises(Parsed) as parsed:
        import_module(command.removesuffix(".py").replace("/", ".")).main([])
    return parsed.value.args[0]


@pytest.mark.parametrize("command", COMMANDS)
def test_paths_are_expanded_and_never_empty(command, monkeypatch):
    monkeypatch.setenv("HOME", "/somewhere")
    for action in parser_of(command, monkeypatch).flags().values():
        takes_a_path = PATH.search(str(action.metavar)) or PATH.search(action.dest)
        assert takes_a_path or not isinstance(action.default, Path), action.dest
        if not takes_a_path:
            continue
        assert action.type is not None, f"{action.dest} is text"
        assert action.type("~/x") == Path("/somewhere/x"), action.dest
        for empty in ("", " "):
            with pytest.raises(argparse.ArgumentTypeError, match="expected a path"):
                action.type(empty)
