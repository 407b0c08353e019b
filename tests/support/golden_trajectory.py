"""The 20 golden SGD steps, replayed on any implementation and compared array by array."""

from collections import defaultdict

import numpy as np
import torch

from tests.support import golden
from tests.support.golden import probe
from tests.support.golden_case import Record, Subject, array, sgd

STEPS = 20
PER_STEP = ("loss", "hard", "hard_weighted", "soft", "grad_total_norm", "lif_rate")


def replay_trajectory(subject: Subject, steps: int = STEPS) -> Record:
    """SGD steps on four batches; after all 20, an evaluation of the first batch, and parameters."""
    stored, expected = golden.constants("trajectory.npz"), golden.arrays("trajectory.npz")
    shape = (stored["NB"], stored["B"], stored["in_channel"], stored["H"], stored["W"])
    inputs, labels = golden.normal("input", shape), torch.from_numpy(expected["labels"])
    optimiser = sgd(subject)
    found = defaultdict(list)
    subject.network.train()
    for step in range(steps):
        batch = step % stored["NB"]
        optimiser.zero_grad()
        losses = subject.loss(subject.train(inputs[batch]), labels[batch])
        (losses["loss"] / stored["T"]).backward()
        gradients = [p.grad.norm() for p in subject.parameters.values()]
        for name in {"loss", "hard", "hard_weighted", "soft"} & set(losses):
            found[name].append(array(losses[name]))
        found["grad_total_norm"].append(array(torch.stack(gradients).norm()))
        found["lif_rate"].append(mean_rates(subject))
        optimiser.step()
    series = {name: np.array(values) for name, values in found.items()}
    return series if steps < STEPS else series | _after_all(subject, inputs)


def _after_all(subject: Subject, inputs: torch.Tensor) -> Record:
    expected = golden.arrays("trajectory.npz")
    subject.network.eval()
    with torch.no_grad():
        logits = subject.evaluate(inputs[0])[-1]
    keys, parameters = expected["param_keys"], subject.parameters
    return {
        "input_head": array(inputs.flatten()[:16]),
        "eval/main": array(logits),
        "eval/lif_rate": mean_rates(subject),
        "param_norm_final": np.array([float(parameters[k].detach().norm()) for k in keys]),
        "param_probe_final": np.array([probe(k, parameters[k]) for k in keys]),
        **{
            f"bn_{kind}_norm": np.array(
                [float(subject.buffers[f"{k}.{kind}"].norm()) for k in expected["bn_keys"]]
            )
            for kind in ("running_mean", "running_var")
        },
    }


def mean_rates(subject: Subject) -> np.ndarray:
    return np.array([float(rate.mean()) for rate, _ in subject.neurons().values()])


def trajectory_mismatches(record: Record, *, tolerance: float, nan_is_zero: bool) -> list[str]:
    """One line for each array further from the golden one than `tolerance` of its maximum.

    nan_is_zero: the implementation has a soft loss of 0, not NaN, in a step without a teacher.
    The record may be of the first steps alone.
    """
    expected = dict(golden.arrays("trajectory.npz"))
    expected["hard_weighted"] = expected["hard"]  # alp is 1
    if nan_is_zero:
        empty = expected["valid"] == 0
        expected["soft"] = np.where(empty, 0.0, expected["soft"])
        expected["loss"] = np.where(empty, expected["hard"], expected["loss"])
    lines = []
    for name, actual in record.items():
        wanted = expected[name][: len(record["loss"])] if name in PER_STEP else expected[name]
        scale = expected["param_norm_final"] if name == "param_probe_final" else np.abs(wanted)
        limit = tolerance * np.maximum(scale, 1e-3 * np.nanmax(scale))
        exact_nan = np.array_equal(np.isnan(actual), np.isnan(wanted))
        if not exact_nan or np.any(np.abs(actual - wanted) > limit):
            error = np.nanmax(np.abs(actual - wanted) / limit)
            lines.append(f"{name}: {error:.3g} times the tolerance {tolerance}")
    return lines
