"""The profile on a small step: everything is counted once and the known kinds are found."""

import torch

from benchmark import profile


def test_kinds_of_a_step(capsys):
    threads = torch.get_num_threads()
    spent = profile.main(["--batch", "2", "--T", "2", "--size", "8", "--repeats", "1"])
    torch.set_num_threads(threads)
    forward, backward = "spiking layers and loss, forward", "spiking layers, backward"
    expected = {
        f"{forward}: convolutions", f"{forward}: neurons", f"{forward}: batch statistics",
        f"{backward}: convolutions", f"{backward}: norms and neurons", "branches, forward",
        "branches, heads and loss, backward", "optimizer",
    }  # fmt: skip
    assert expected <= {kind for kind, microseconds in spent.items() if microseconds > 0}
    printed = capsys.readouterr().out
    assert f"| sum | {sum(spent.values()) / 1e3:.1f} | |" in printed
