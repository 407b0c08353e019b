"""The ways that --tune compares: all that differ here, each computed as its flags say."""

from types import SimpleNamespace

import pytest
import torch

from experiment.cifar.config.config import get_parser
from experiment.flag.amp import PRECISIONS
from experiment.flag.ways import ways_of

DATA = SimpleNamespace(class_names=("a", "b"), channels=1)


def ways(*argv):
    return ways_of(get_parser().parse_args(["--width", "2", "--T", "2", "--tune", *argv]), DATA)


def words(*argv):
    return [way.words for way in ways(*argv)]


def test_every_way_has_the_network_and_the_recipe_of_its_flags():
    for way in ways("--sparse", "--amp", "bf16"):
        execution, amp = way.network().execution, way.recipe.amp
        assert execution.sparse == ("--sparse" in way.words)
        assert (execution.backend == "compiled") == ("--compile" in way.words)
        assert amp == (way.words.partition("--amp ")[2].split() or ["none"])[0]
        assert execution.convolution_backward == PRECISIONS[amp].backward


@pytest.mark.parametrize("given", ["", "--sparse --compile", "--amp fp16 --resume auto"])
def test_the_first_is_plain_whatever_was_given(given, capsys):
    first, *others = ways(*given.split())
    assert first.words == "" and first.recipe.amp == "none"
    assert not first.network().execution.sparse
    assert [way.words for way in others] == [
        *("--compile", "--sparse", "--sparse --compile"),
        *(f"{switches}--amp bf16-backward" for switches in ("", "--compile ", "--sparse ")),
        "--sparse --compile --amp bf16-backward",
        *("--amp bf16", "--compile --amp bf16"),
    ]


def test_only_those_that_differ_are_compared(monkeypatch):
    assert words("--method", "bptt") == ["", "--amp bf16"]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    amps = ("", "--amp bf16-backward", "--amp fp16", "--amp bf16")
    assert words() == [f"{x}{amp}".strip() for amp in amps for x in ("", "--compile ")]
    assert "--sparse" in words("--device", "cpu")
