"""The 20 golden SGD steps, replayed and compared array by array."""

from collections import defaultdict

import numpy as np
import torch

from tests.support import golden
from tests.support.golden import probe
from tests.support.golden_case import Record, Subject, array, sgd

STEPS = 20
TOLERANCE = 1e-6  # our teacher has no 1e-8 (FORMULAS.md)


def replay_trajectory(subject: Subject) -> Record:
    """SGD steps on four batches; after all 20, an evaluation of the first batch, and parameters."""
    stored, expected = golden.constants("trajectory.npz"), golden.arrays("trajectory.npz")
    shape = (stored["NB"], stored["B"], stored["in_channel"], stored["H"], stored["W"])
    inputs, labels = golden.normal("input", shape), torch.from_numpy(expected["labels"])
    optimiser = sgd(subject)
    found = defaultdict(list)
    subject.network.train()
    for step in range(STEPS):
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
    subject.network.eval()
    with torch.no_grad():
        logits = subject.evaluate(inputs[0])[-1]
    keys, parameters = expected["param_keys"], subject.parameters
    return {
        **{name: np.array(values) for name, values in found.items()},
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


def expected_trajectory() -> Record:
    """The golden arrays; in a step without a teacher our soft loss is 0, the published one NaN."""
    expected = dict(golden.arrays("trajectory.npz"))
    empty = expected["valid"] == 0
    expected["soft"] = np.where(empty, 0.0, expected["soft"])
    expected["loss"] = np.where(empty, expected["hard"], expected["loss"])
    expected["hard_weighted"] = expected["hard"]  # alp is 1
    return expected


def trajectory_mismatches(record: Record) -> list[str]:
    """One line for each array further from the golden one than TOLERANCE of its maximum."""
    expected = expected_trajectory()
    lines = []
    for name, actual in record.items():
        wanted = expected[name]
        scale = expected["param_norm_final"] if name == "param_probe_final" else np.abs(wanted)
        limit = TOLERANCE * np.maximum(scale, 1e-3 * np.max(scale))
        error = np.max(np.abs(actual - wanted) / limit)
        if not error <= 1:  # nor NaN
            lines.append(f"{name}: {error:.3g} times the tolerance {TOLERANCE}")
    return lines
