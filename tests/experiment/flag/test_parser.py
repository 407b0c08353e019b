"""Wrong command lines are refused in one sentence; flags without effect are named."""

import argparse

import pytest

from experiment.flag.kinds import Real, Switch
from experiment.flag.parser import FlagParser
from experiment.flag.row import Condition, Flag, Role

IS_FAST = Condition(lambda args: args.fast, "it is fast")
TABLE = (
    Flag("weight", Real(), 0.5, Role.TRAINING, "KILOGRAMS", (IS_FAST,)).means("how heavy"),
    Flag("fast", Switch(), True, Role.LOOP).means("quick"),
    Flag("size", Real(), 1, Role.TRAINING, idle=(IS_FAST,)).means("how large; default: one"),
)


def parse(*argv):
    return FlagParser("description", TABLE).parse_args(argv)


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["--wei", "3"], "unrecognized arguments: --wei 3"),
        (["--weight"], "argument --weight: expected one argument"),
        (["--weight", "x"], "argument --weight: expected a number, got 'x'"),
        (["--fast=1"], "argument --fast/--no-fast: ignored explicit argument '1'"),
        (["extra"], "unrecognized arguments: extra"),
    ],
)
def test_a_wrong_command_line_is_refused_in_one_sentence(argv, sentence, capsys):
    with pytest.raises(SystemExit) as end:
        parse(*argv)
    assert end.value.code == 2
    assert capsys.readouterr() == ("", f"error: {sentence} (--help lists every flag)\n")


@pytest.mark.parametrize("text", ["-1e-2", "-.5E3", "-7", "-2."])
def test_a_negative_number_is_no_flag(text):
    assert parse("--no-fast", "--weight", text).weight == float(text)


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        (["--weight", "0.5"], "--weight"),  # even with its default
        (["--fast", "--size=1", "--weight=2"], "--weight, --size"),
        (["--no-fast", "--weight", "2"], None),
        (["--fast"], None),
        ([], None),
    ],
)
def test_flags_without_effect_are_named_in_one_line_if_they_are_given(argv, named, capsys):
    parse(*argv)
    line = f"warning: no effect of {named}: it is fast\n"
    assert capsys.readouterr().err == (line if named else "")


def test_of_many_processes_one_warns(capsys, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    parse("--weight", "2")
    assert capsys.readouterr().err == ""


def test_words_may_be_numbers_and_values_are_a_plain_namespace():
    args = parse("--weight", 3)
    assert type(args) is argparse.Namespace
    assert vars(args) == {"weight": 3.0, "fast": True, "size": 1}


def test_the_help_says_unit_and_default_once():
    shown = FlagParser("description", TABLE).format_help()
    assert "--weight KILOGRAMS" in shown and "how heavy (default: 0.5)" in shown
    assert "how large; default: one\n" in shown
