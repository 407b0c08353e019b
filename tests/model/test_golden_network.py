"""Full-width networks against the published code's numbers, array by array, in float64.

One training step (heads, teacher, losses, every parameter's gradient, running statistics, firing
rates, eligibilities), three evaluations, one SGD update; and 20 SGD steps. Our teacher has no
1e-8, which sets the tolerances of what depends on it (FORMULAS.md).
"""

from functools import partial

import pytest
import torch

from model import Execution, build_model
from model.distillation import SelfDistillationLoss, reliable_teacher
from tests.support import golden
from tests.support.golden_case import (
    Subject,
    expected_arrays,
    mismatches,
    replay,
)
from tests.support.golden_trajectory import replay_trajectory, trajectory_mismatches
from tests.support.observe import neuron_observer, reference_names
from util.checkpoint import from_reference
from util.misc import parameter_groups

pytestmark = pytest.mark.slow

# On their larger maps dense convolutions in float64 take up to a minute.
SPARSE_ALONE = ("resnet19_dvs_T10_48_adapted", "preact_resnet18_T4_224")
DENSE = [case for case in golden.network_cases() if case.name not in SPARSE_ALONE]
NOT_REPLAYED = {
    "hard",  # it is, as hard_weighted, since alp is 1
    "labels",
    "valid",
    "param_keys",
    "bn_keys",
    "min_abs_v_minus_thresh",
    "dev_independent_loss",
    "dev_perturb_1e-13_loss",
    "dev_perturb_1e-10_loss",
    "dev_perturb_1e-07_loss",
}
SPARSE = (
    *SPARSE_ALONE,
    "resnet18_c10_T6",
    "resnet18_c100_T4",
    "resnet18_dvs_T10_48",
    "resnet19_c10_T4_32",
    "resnet19_dvs_T10_24",
    "preact_resnet18_T4_128",
)
# Built for one time step and run with the case's: cheap ones, of images and of frames.
OF_ANOTHER_T = ("resnet18_c100_T4", "resnet18_dvs_T10_48", "preact_resnet18_T4_128")
# The published hard loss leaves weights out or applies them to other heads; ours is in
# `hard_weighted`. Single heads' terms are not part of the loss's record.
NOT_OURS = {"hard", "hard_per_head", "soft_per_head"}


@pytest.mark.parametrize("case", DENSE, ids=lambda case: case.name)
def test_training_step_and_evaluations(case):
    assert_golden(case)


@pytest.mark.parametrize("name", SPARSE)
def test_with_sparse_convolutions(name):
    assert_golden(golden.NetworkCase(name), execution=Execution(sparse=True))


@pytest.mark.parametrize("name", OF_ANOTHER_T)
def test_of_a_network_made_for_another_number_of_time_steps(name):
    case = golden.NetworkCase(name)
    assert_golden(case, steps=case.constants["T"], T=1, execution=Execution(sparse=True))


def assert_golden(case, *, steps=None, **options):
    """The whole case, replayed with `steps` time steps on a network with these options."""
    stored = case.constants
    network = build_model(stored["arch"], **{**case.network_options, **options}).double()
    network.load_state_dict(from_reference(case.state()))
    with neuron_observer(network) as observed:
        subject = model_subject(network, stored, case.arrays["lif_keys"], observed, steps)
        record = replay(case, subject)

    assert set(expected_arrays(case)) - set(record) == NOT_OURS
    assert mismatches(case, record, teacher_has_epsilon=False) == []


def test_trajectory_of_20_steps():
    """Sparse convolutions take a third of the time in float64; dense ones take one step above."""
    stored, expected = golden.constants("trajectory.npz"), golden.arrays("trajectory.npz")
    case = golden.NetworkCase("resnet18_c10_T6")
    options = {"num_classes": stored["classes"], "execution": Execution(sparse=True)}
    network = build_model("resnet18", T=stored["T"], **options).double()
    network.load_state_dict(from_reference(case.state()))
    with neuron_observer(network) as observed:
        subject = model_subject(network, case.constants, case.arrays["lif_keys"], observed)
        record = replay_trajectory(subject)

    assert set(expected) - set(record) == NOT_REPLAYED
    assert (expected["valid"] == 0).any(), "a step without any teacher belongs to the trajectory"
    assert trajectory_mismatches(record) == []


def model_subject(network, stored, neuron_keys, observed, steps=None) -> Subject:
    names = reference_names(stored["state_dict"])
    distillation = SelfDistillationLoss(stored["alp"], stored["beta"])

    def loss(heads, labels):
        values = distillation(heads, labels)
        return {
            "loss": values.total,
            "hard_weighted": values.hard,
            "soft": values.soft,
            "reliable": values.reliable,
            "teacher": reliable_teacher(torch.stack(heads), labels)[0],
        }

    def evaluate(x):
        """Branches where the published code has them in eval mode, else what `net(x)` returns."""
        if stored["arch"] == "resnet18":
            return [network(x, T=steps)]
        return network.head_logits(x, T=steps)

    return Subject(
        network=network,
        parameters={names[name]: p for name, p in network.named_parameters()},
        buffers={names[name]: b for name, b in network.named_buffers()},
        groups=parameter_groups(network, weight_decay=golden.manifest()["wd"]),
        train=partial(network, T=steps),
        evaluate=evaluate,
        loss=loss,
        neurons=lambda: dict(zip(neuron_keys, observed, strict=True)),
    )
