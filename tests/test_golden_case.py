"""The comparison with the golden arrays notices a wrong number in any of them."""

import numpy as np
import pytest

from tests.support import golden
from tests.support.golden_case import expected_arrays, mismatches
from tests.support.golden_trajectory import expected_trajectory, trajectory_mismatches

CASES = golden.network_cases()


@pytest.mark.parametrize("teacher_has_epsilon", [True, False])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_each_golden_array_is_compared(case, teacher_has_epsilon):
    expected = expected_arrays(case)
    assert mismatches(case, expected, teacher_has_epsilon=teacher_has_epsilon) == []
    for name, values in expected.items():
        lines = mismatches(
            case, expected | {name: spoiled(values)}, teacher_has_epsilon=teacher_has_epsilon
        )
        assert len(lines) == 1 and f" {name}:" in lines[0]


def test_each_array_of_the_trajectory_is_compared():
    compared = ("loss", "hard", "soft", "grad_total_norm", "lif_rate", "eval/main", "eval/lif_rate")
    expected = {name: expected_trajectory()[name] for name in compared}
    assert trajectory_mismatches(expected) == []
    for name, values in expected.items():
        for wrong in (spoiled(values), np.full_like(values, np.nan)):
            (line,) = trajectory_mismatches(expected | {name: wrong})
            assert line.startswith(f"{name}:")


def spoiled(values: np.ndarray) -> np.ndarray:
    """The array with one entry wrong, a floating-point one by 1e-5 of the largest."""
    values = np.array(values)
    flat = values.reshape(-1)
    if values.dtype == bool:
        flat[0] = not flat[0]
    elif values.dtype.kind == "f":
        flat[np.argmax(np.abs(flat))] *= 1 + 1e-5
    elif values.dtype.kind == "i":
        flat[0] += 1
    else:
        flat[0] = "another"
    return flat.reshape(values.shape)
