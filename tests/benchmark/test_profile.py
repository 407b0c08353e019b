"""The profile on a small step: everything is counted once and the known kinds are found."""

import pytest
import torch

from benchmark import profile
from benchmark.command import run


def test_kinds_of_a_step(capsys):
    threads = torch.get_num_threads()
    spent = profile.main(["--batch", "2", "--T", "2", "--size", "8", "--repeats", "1"])
    torch.set_num_threads(threads)
    forward, backward = "spiking layers and loss, forward", "spiking layers, backward"
    expected = {
        f"{forward}: convolutions", f"{forward}: neurons", f"{forward}: batch statistics",
        f"{backward}: convolutions", f"{backward}: norms and neurons", "optimizer",
        *(
            f"branches, {way}: {what}"
            for way in ("forward", "heads and loss, backward")
            for what in ("depthwise convolutions", "other convolutions", "other")
        ),
    }  # fmt: skip
    assert expected <= {kind for kind, microseconds in spent.items() if microseconds > 0}
    printed = capsys.readouterr().out
    assert f"| sum | {sum(spent.values()) / 1e3:.1f} | |" in printed
    assert "\n| aten::convolution_backward | " in printed


def test_a_network_that_does_not_fit_the_image_is_one_sentence(capsys):
    with pytest.raises(SystemExit) as stop:
        run(lambda: profile.main(["--arch", "vgg11", "--size", "8", "--batch", "1"]))
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
