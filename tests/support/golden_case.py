"""One golden training step, replayed on any implementation and compared array by array.

`replay` runs the step and the three evaluations of a case and returns what it saw under the names
of the golden arrays; `mismatches` lists every array outside the tolerances of FORMULAS.md.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import inf

import numpy as np
import torch
from torch import Tensor, nn

from tests.support import golden
from tests.support.golden import NetworkCase, probe

Record = dict[str, np.ndarray]


@dataclass(frozen=True)
class Subject:
    """What a replay needs to know of an implementation.

    Every mapping has the published code's names. `train` returns the N heads' logits with graph,
    `evaluate` those heads that the implementation has in eval mode, the SNN's own last.
    `loss(heads, labels)` returns scalars and arrays by golden name, `loss` being the undivided
    total. `neurons()` gives (firing rate, eligibility) of the last forward pass. `groups` are the
    optimiser's parameter groups.
    """

    network: nn.Module
    parameters: Mapping[str, nn.Parameter]
    buffers: Mapping[str, Tensor]
    groups: Sequence[dict]
    train: Callable[[Tensor], list[Tensor]]
    evaluate: Callable[[Tensor], list[Tensor]]
    loss: Callable[[list[Tensor], Tensor], dict[str, Tensor]]
    neurons: Callable[[], dict[str, tuple[Tensor, Tensor | None]]]


def expected_arrays(case: NetworkCase) -> Record:
    """The golden arrays, and the hard loss and reliable fraction as this project defines them."""
    expected = dict(case.arrays)
    per_head = expected["hard_per_head"]
    expected["hard_weighted"] = per_head[-1] + case.constants["alp"] * per_head[:-1].sum()
    heads = np.stack([expected[f"logits/{n}"] for n in range(len(per_head))])
    right = (heads.argmax(2) == expected["labels"]).any(0)
    expected["reliable"] = right.mean()
    return expected


def replay(case: NetworkCase, subject: Subject) -> Record:
    """Train one step, evaluate, update, evaluate, warm up, evaluate; record everything."""
    x, labels, T = case.input(), case.labels, case.constants["T"]
    record = input_record(case)
    subject.network.train()
    heads = subject.train(x)
    losses = subject.loss(heads, labels)
    (losses["loss"] / T).backward()
    record |= {f"logits/{n}": array(head) for n, head in enumerate(heads)}
    record |= {name: array(value) for name, value in losses.items()}
    record |= gradient_record(case, subject)
    record |= neuron_record(case, subject)
    record |= running_record(case, subject)
    record |= evaluation_record(case, subject, "eval", x)
    record |= update_record(case, subject)
    record |= evaluation_record(case, subject, "eval_sgd", x)
    for key, buffer in subject.buffers.items():
        if key.endswith("running_mean"):
            buffer.div_(0.1)
        elif key.endswith("running_var"):
            buffer.sub_(0.9).div_(0.1)
    return record | evaluation_record(case, subject, "eval_warm", x)


def input_record(case: NetworkCase) -> Record:
    stored, shape = case.stored_input(), (case.constants["B"],)
    drawn = golden.generator("labels").integers(0, case.constants["classes"], shape)
    return {
        "input_head": array(stored.flatten()[:16]),
        "input_sum": array(stored.sum()),
        "labels": array(case.labels),
        "labels_formula": drawn,
    }


def gradient_record(case: NetworkCase, subject: Subject) -> Record:
    keys = case.arrays["param_keys"]
    parameters = [subject.parameters[key] for key in keys]
    norms = np.array([float(p.grad.norm()) for p in parameters])
    record = {
        "param_keys": np.array(list(subject.parameters)),
        "param_norm": np.array([float(p.detach().norm()) for p in parameters]),
        "grad_norm": norms,
        "grad_probe": np.array([probe(k, p.grad) for k, p in zip(keys, parameters, strict=True)]),
        "grad_is_zero": norms < 1e-12 * np.linalg.norm(norms),
    }
    full = [name for name in case.arrays if name.startswith("grad_full/")]
    return record | {
        name: array(subject.parameters[name.removeprefix("grad_full/")].grad) for name in full
    }


def neuron_record(case: NetworkCase, subject: Subject) -> Record:
    neurons, keys = subject.neurons(), case.arrays["lif_keys"]
    return {
        "lif_keys": np.array(list(neurons)),
        "lif_rate": np.array([float(neurons[key][0].mean()) for key in keys]),
        "lif_mean_probe": np.array([probe(f"{key}.mean", neurons[key][0]) for key in keys]),
        "lif_elig_norm": np.array([float(neurons[key][1].norm()) for key in keys]),
        "lif_elig_probe": np.array([probe(f"{key}.elig", neurons[key][1]) for key in keys]),
    }


def running_record(case: NetworkCase, subject: Subject) -> Record:
    keys, buffers = case.arrays["bn_keys"], subject.buffers
    names = [key.removesuffix(".running_mean") for key in buffers if key.endswith("running_mean")]
    record = {
        "bn_keys": np.array(names),
        "bn_num_batches_tracked": np.array(
            [int(buffers[f"{key}.num_batches_tracked"]) for key in keys]
        ),
    }
    for kind in ("running_mean", "running_var"):
        values = {key: buffers[f"{key}.{kind}"] for key in keys}
        record[f"bn_{kind}_norm"] = np.array([float(v.norm()) for v in values.values()])
        record[f"bn_{kind}_probe"] = np.array(
            [probe(f"{key}.{kind}", value) for key, value in values.items()]
        )
    return record


def evaluation_record(case: NetworkCase, subject: Subject, name: str, x: Tensor) -> Record:
    subject.network.eval()
    with torch.no_grad():
        *branches, logits = subject.evaluate(x)
    neurons = subject.neurons()
    rates = [float(neurons[key][0].mean()) for key in case.arrays["lif_keys"]]
    record = {f"{name}/main": array(logits), f"{name}/lif_rate": np.array(rates)}
    if f"{name}/branch0" in case.arrays:
        record |= {f"{name}/branch{n}": array(head) for n, head in enumerate(branches)}
    return record


def update_record(case: NetworkCase, subject: Subject) -> Record:
    """One SGD update in place."""
    parameters = [subject.parameters[key] for key in case.arrays["param_keys"]]
    sgd(subject).step()
    decayed = {id(p) for group in subject.groups if group["weight_decay"] for p in group["params"]}
    return {
        "sgd_decayed": np.array([id(p) in decayed for p in parameters]),
        "sgd_param_norm": np.array([float(p.detach().norm()) for p in parameters]),
    }


def sgd(subject: Subject) -> torch.optim.SGD:
    """The optimiser of the golden steps."""
    stored = golden.manifest()
    return torch.optim.SGD(subject.groups, lr=stored["lr"], momentum=stored["momentum"])


def array(value: Tensor) -> np.ndarray:
    return value.detach().cpu().numpy().copy()


# Name, tolerance if the teacher has the published 1e-8, tolerance if it does not, and what the
# tolerance is relative to. "exact" arrays are compared by ==, key lists as sets.
TOLERANCES = (
    (r"(param|lif|bn)_keys", None, None, "set"),
    (r"labels.*|bn_num_batches_tracked|grad_is_zero|sgd_decayed", None, None, "exact"),
    (r"input_.*|param_norm|lif_rate|(eval.*)/lif_rate|reliable", 1e-12, 1e-12, "value"),
    (r"logits/.*|hard.*|eval/.*", 1e-11, 1e-11, "maximum"),
    (r"teacher|soft.*|loss", 1e-11, 1e-7, "maximum"),
    (r"(eval_sgd|eval_warm)/.*", 1e-11, 1e-7, "maximum"),
    (r"grad_norm|grad_probe", 1e-10, 1e-7, "gradient norm"),
    (r"grad_full/.*", 1e-10, 1e-7, "norm"),
    (r"lif_.*", 1e-12, 1e-12, "eligibility norm"),
    (r"bn_running_mean_.*", 1e-12, 1e-12, "mean norm"),
    (r"bn_running_var_.*", 1e-12, 1e-12, "variance norm"),
    (r"sgd_param_norm", 1e-12, 1e-8, "value"),
)


def mismatches(case: NetworkCase, record: Record, *, teacher_has_epsilon: bool) -> list[str]:
    """One line for each recorded array that is not the golden one."""
    expected = expected_arrays(case)
    lines = []
    for name, actual in record.items():
        strict, relaxed, scale = next(
            rule[1:] for rule in TOLERANCES if re.fullmatch(rule[0], name)
        )
        tolerance = strict if teacher_has_epsilon else relaxed
        excess = excess_over(expected, name, actual, tolerance, scale)
        if not excess <= 1:
            lines.append(f"{case.name} {name}: {excess:.3g} times the tolerance {tolerance}")
    return lines


def excess_over(
    expected: Record, name: str, actual: np.ndarray, tolerance: float | None, scale: str
) -> float:
    """Largest error of an array in units of its tolerance; infinite if shapes or keys differ."""
    wanted = expected[name]
    if scale == "set":
        return 0.0 if set(actual) == set(wanted) and len(actual) == len(wanted) else inf
    if np.shape(actual) != np.shape(wanted):
        return inf
    if scale == "exact":
        return 0.0 if np.array_equal(actual, wanted) else inf
    limit = tolerance * np.maximum(unit(expected, name, scale), 1e-300)
    if scale == "gradient norm":
        total = np.linalg.norm(expected["grad_norm"])
        limit = np.where(expected["grad_is_zero"], 1e-12 * total, limit)
    return float(np.max(np.abs(actual - wanted) / limit))


def unit(expected: Record, name: str, scale: str) -> np.ndarray:
    """What the tolerance of an array is relative to."""
    return {
        "value": lambda: np.maximum(np.abs(expected[name]), 1e-3),
        "maximum": lambda: np.abs(expected[name]).max(),
        "norm": lambda: np.linalg.norm(expected[name]),
        "gradient norm": lambda: expected["grad_norm"],
        "eligibility norm": lambda: expected["lif_elig_norm"],
        "mean norm": lambda: np.maximum(expected["bn_running_mean_norm"], 1.0),
        "variance norm": lambda: np.maximum(expected["bn_running_var_norm"], 1.0),
    }[scale]()
