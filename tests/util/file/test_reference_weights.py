"""Every key of the published networks has exactly one name of ours.

That it is the right one is shown by what the golden networks compute with renamed weights.
"""

import json
from pathlib import Path

import pytest

from util.file.reference_weights import from_reference

GOLDEN = Path(__file__).parents[2] / "golden"
ARCHS = ("resnet18", "resnet19", "preact_resnet18", "preact_resnet34")


def published_keys(arch):
    for entry in json.loads((GOLDEN / "manifest.json").read_text())["files"]:
        constants = entry["constants"]
        if constants.get("arch") == arch and "state_dict" in constants:
            return list(constants["state_dict"])
    raise LookupError(arch)


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("arch", ARCHS)
def test_all_published_keys_map_one_to_one_and_keep_order_and_values(arch, prefix):
    values = {prefix + key: object() for key in published_keys(arch)}
    renamed = from_reference(values)
    assert len(renamed) == len(values) > 100
    pairs = zip(renamed.values(), values.values(), strict=True)
    assert all(ours is theirs for ours, theirs in pairs)


UNKNOWN = [
    *("", "weight", "conv2.weight", "layer0.0.conv1.weight", "layer1.0.conv3.weight"),
    *("layer1.0.conv1.extra.weight", "layer1.conv1.weight", "layer1.0.spike1.decay"),
    *("conv0.2.decay", "scala1.0.op.3.weight", "scala0.0.op.0.weight", "fc0.weight"),
    *("classifier.1.weight", "module.module.fc.weight", "stages.0.0.unit1.conv.weight"),
    *("conv0.0.weight ", "xconv1.weight", 7),
]


@pytest.mark.parametrize("key", UNKNOWN)
def test_unknown_keys_are_named(key):
    with pytest.raises(ValueError) as refusal:
        from_reference({"fc.weight": 1, key: 2})
    assert repr(key) in str(refusal.value)


@pytest.mark.parametrize(
    "keys", [("conv0.0.weight", "conv1.weight"), ("fc.bias", "module.fc.bias")]
)
def test_two_keys_for_one_weight_are_refused(keys):
    with pytest.raises(ValueError, match="twice"):
        from_reference(dict.fromkeys(keys))
