import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmark import scaling
from experiment.recipe import PRECISIONS

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_every_gradient_is_exchanged_once_and_statistics_only_on_request():
    """Bytes against what they must be: 4 for each parameter, and 12 for the loss and the guard."""
    command = [
        sys.executable, str(ROOT / "benchmark" / "scaling.py"), "--width", "4", "--T", "1",
        "--batch", "2", "--steps", "2", "--processes", "1", "2",
    ]  # fmt: skip
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    rows = {int(m[1]): m for m in re.finditer(r"^\| (\d+) \|(.+)\|$", out, re.MULTILINE)}
    parameters = int(re.search(r"([\d,]+) parameters", out)[1].replace(",", ""))
    one, two = (rows[n][2].split("|") for n in (1, 2))
    assert float(one[3]) == 0 and int(one[4]) == 0
    assert float(two[3]) == pytest.approx(4 * parameters / 1e6, abs=0.05)
    assert int(two[4]) == 12
    assert float(one[0]) > 0 and float(two[0]) > 0


@pytest.mark.parametrize("amp", PRECISIONS)
def test_the_backward_pass_has_the_precision_that_is_asked_for(amp):
    net = scaling.network("resnet18", T=1, width=2, amp=amp)
    low = torch.bfloat16 if amp == "bf16-backward" else None
    assert net.execution.convolution_backward == low
