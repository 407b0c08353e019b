"""Wrong values are refused in one sentence; flags without effect are named."""

import argparse
import re
from pathlib import Path

import pytest

from experiment.flag_parser import (
    LARGEST,
    FlagParser,
    Idle,
    add_switch,
    expanded_path,
    number,
    optional,
    path_or,
)


def refusal(capsys, parser, *argv):
    with pytest.raises(SystemExit) as end:
        parser.parse_args(argv)
    printed = capsys.readouterr()
    assert end.value.code == 2
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    return printed.err


def parser_of(**types):
    parser = FlagParser("description")
    for name, kind in types.items():
        parser.add_argument(f"--{name}", type=kind, default=None)
    return parser


@pytest.mark.parametrize("text", ["0", "7", " 8 ", str(LARGEST)])
def test_whole_numbers_within_the_bounds_are_taken(text):
    assert number(int, 0)(text) == int(text)


@pytest.mark.parametrize(
    "text",
    ["-1", "1.5", "1e3", "", "nan", "inf", "abc", "0x10", str(LARGEST + 1), "9" * 400, "9" * 5000],
)
def test_other_whole_numbers_are_refused(text, capsys):
    sentence = refusal(capsys, parser_of(count=number(int, 0)), f"--count={text}")
    assert re.match(r"error: argument --count: expected a whole number", sentence)
    assert len(sentence) < 200  # a long value is cut short


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "1e999", "", "x", "0", "-0.1", "1.01"])
def test_numbers_outside_the_bounds_are_refused(text, capsys):
    parser = parser_of(share=number(float, 0, 1, open_low=True))
    assert "--share" in refusal(capsys, parser, f"--share={text}")
    assert parser.parse_args(["--share", "1"]).share == 1.0


def test_a_number_without_bounds_is_finite(capsys):
    parser = parser_of(potential=optional(number(float, float("-inf")), "none"))
    assert parser.parse_args(["--potential", "-3.5"]).potential == -3.5
    assert parser.parse_args(["--potential", "NONE"]).potential is None
    assert "expected a number from" in refusal(capsys, parser, "--potential", "nan")


def test_a_path_is_expanded_and_never_empty(capsys, monkeypatch):
    parser = parser_of(folder=expanded_path)
    monkeypatch.setenv("HOME", "/somewhere")
    for text, folder in (("a/b", "a/b"), ("~/data", "/somewhere/data"), ("a/~", "a/~")):
        assert str(parser.parse_args(["--folder", text]).folder) == folder
    for text in ("", " ", "~no-such-user-here/data"):
        assert "argument --folder: " in refusal(capsys, parser, "--folder", text)


def test_a_link_to_nowhere_is_named(capsys, tmp_path):
    parser = parser_of(folder=expanded_path, resume=path_or("auto"))
    (tmp_path / "link").symlink_to("nowhere")
    for flag in ("--folder", "--resume"):
        for path in (tmp_path / "link", tmp_path / "link" / "below"):
            sentence = refusal(capsys, parser, flag, path)
            assert f"argument {flag}: {tmp_path / 'link'} is a link to nowhere (No such" in sentence
    (tmp_path / "nowhere").mkdir()
    assert parser.parse_args(["--folder", tmp_path / "link"]).folder == tmp_path / "link"


def test_a_word_may_stand_for_a_path(capsys, monkeypatch):
    parser = parser_of(resume=path_or("auto"))
    monkeypatch.setenv("HOME", "/somewhere")
    assert parser.parse_args(["--resume", "auto"]).resume == "auto"
    assert parser.parse_args(["--resume", "~/x.pt"]).resume == Path("/somewhere/x.pt")
    assert "argument --resume: expected a path" in refusal(capsys, parser, "--resume", "")


def test_a_bound_of_its_own_may_be_larger():
    assert number(int, 0, 2**32 - 1)(str(2**32 - 1)) == 2**32 - 1


@pytest.mark.parametrize("text", ["-1e-2", "-.5E3", "-7", "-2."])
def test_a_negative_number_is_no_flag(text):
    parser = parser_of(potential=number(float, float("-inf")))
    assert parser.parse_args(["--potential", text]).potential == float(text)


@pytest.mark.parametrize("text", ["1e300", "-1e300", "inf"])
def test_numbers_that_fp32_does_not_hold_are_refused(text, capsys):
    parser = parser_of(potential=number(float, float("-inf")))
    assert "up to 1e+30" in refusal(capsys, parser, "--potential", text)


def test_a_name_must_be_whole(capsys):
    assert "unrecognized arguments" in refusal(capsys, parser_of(length=int), "--len", "3")


def switch_parser():
    parser = parser_of(weight=float)
    add_switch(parser, "fast", True, "quick")
    parser.set_defaults(weight=0.5)
    parser.idle = [Idle(lambda args: args.fast, ("weight",), "it is fast")]
    return parser


@pytest.mark.parametrize("argv", [["--weight", "0.5"], ["--weight=2"], ["--fast", "--weight", "1"]])
def test_a_flag_without_effect_is_warned_about_even_with_its_default(argv, capsys):
    args = switch_parser().parse_args(argv)
    assert args.weight == float(argv[-1].rpartition("=")[2])
    assert capsys.readouterr().err == "warning: no effect of --weight: it is fast\n"


@pytest.mark.parametrize("argv", [[], ["--no-fast", "--weight", "2"], ["--no-fast"], ["--fast"]])
def test_no_warning_where_the_flag_is_absent_or_has_an_effect(argv, capsys):
    switch_parser().parse_args(argv)
    assert capsys.readouterr().err == ""


def test_of_many_processes_one_warns(capsys, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    switch_parser().parse_args(["--weight", "2"])
    assert capsys.readouterr().err == ""


def test_the_parsed_values_are_a_plain_namespace():
    args = switch_parser().parse_args([])
    assert type(args) is argparse.Namespace
    assert vars(args) == {"weight": 0.5, "fast": True}
