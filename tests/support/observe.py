"""Names and hidden quantities of a `RateModel`, for comparison with other implementations."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from unittest.mock import patch

from torch import Tensor

from model import RateModel, kernel
from model.rate_pair import RatePair
from util.checkpoint import from_reference


def reference_names(reference_keys: Iterable[str]) -> dict[str, str]:
    """Our state-dict key -> the published code's."""
    return from_reference({key: key for key in reference_keys})


@contextmanager
def neuron_observer(network: RateModel) -> Iterator[list[tuple[Tensor, Tensor | None]]]:
    """Collects (firing rate, eligibility) of every spiking layer of the latest forward pass.

    The list is in forward order, each entry (B, ...); in eval mode the eligibility is None.
    Rates are read off the layers' outputs, eligibilities where they are computed.
    """
    observed: list[tuple[Tensor, Tensor | None]] = []
    eligibilities: list[Tensor] = []
    compute = kernel.fire

    def computed(source, neuron, T, execution):
        fired = compute(source, neuron, T, execution)
        if neuron is not None:
            eligibilities.append(fired.eligibility)
        return fired

    def start(module, inputs):
        observed.clear()
        eligibilities.clear()

    def collect(module, inputs, output):
        eligibility = eligibilities.pop() if isinstance(output, RatePair) else None
        observed.append((output.rate.detach(), eligibility))

    handles = [network.stem.register_forward_pre_hook(start)]
    handles += [layer.register_forward_hook(collect) for _, layer in network.spiking_layers()]
    with patch.object(kernel, "fire", computed):
        yield observed
    for handle in handles:
        handle.remove()
