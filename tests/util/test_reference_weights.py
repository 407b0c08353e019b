"""Every key of the published networks has exactly one name of ours."""

import json
from pathlib import Path

import pytest

import util.checkpoint
from util.reference_weights import from_reference

GOLDEN = Path(__file__).parents[1] / "golden"


def published_keys(arch):
    for entry in json.loads((GOLDEN / "manifest.json").read_text())["files"]:
        constants = entry["constants"]
        if constants.get("arch") == arch and "state_dict" in constants:
            return list(constants["state_dict"])
    raise LookupError(arch)


EXPECTED_COUNTS = {
    "resnet18": 248,
    "resnet19": 182,
    "preact_resnet18": 340,
    "preact_resnet34": 452,
}


@pytest.mark.parametrize("arch", EXPECTED_COUNTS)
def test_all_published_keys_map_one_to_one_and_keep_their_values(arch):
    keys = published_keys(arch)
    values = {key: object() for key in keys}
    renamed = from_reference(values)
    assert len(renamed) == len(keys) == EXPECTED_COUNTS[arch]
    # Same order, the very same values.
    assert all(
        ours is theirs for ours, theirs in zip(renamed.values(), values.values(), strict=True)
    )


# Written out by hand, independently of the table.
EXAMPLES = {
    "conv0.0.weight": "stem.conv.weight",
    "conv0.1.running_var": "stem.norm.running_var",
    "conv1.bias": "stem.conv.bias",
    "bn1.num_batches_tracked": "stem.norm.num_batches_tracked",
    "layer1.0.conv1.weight": "stages.0.0.unit1.conv.weight",
    "layer3.1.bn1.weight": "stages.2.1.unit1.norm.weight",
    "layer4.2.conv2.bias": "stages.3.2.unit2.conv.bias",
    "layer2.3.bn2.running_mean": "stages.1.3.unit2.norm.running_mean",
    "layer2.0.shortcut.0.weight": "stages.1.0.shortcut.conv.weight",
    "layer3.0.shortcut.1.bias": "stages.2.0.shortcut.norm.bias",
    "layer4.0.downsample.0.bias": "stages.3.0.shortcut.conv.bias",
    "layer4.0.downsample.1.running_var": "stages.3.0.shortcut.norm.running_var",
    "classifier.0.weight": "classifier.0.weight",
    "classifier.2.bias": "classifier.2.bias",
    "fc.weight": "classifier.0.weight",
    "fc1.weight": "branches.0.classifier.weight",
    "fc3.bias": "branches.2.classifier.bias",
    "scala1.0.op.0.weight": "branches.0.blocks.0.depthwise1.weight",
    "scala1.2.op.1.weight": "branches.0.blocks.2.pointwise1.weight",
    "scala2.0.op.2.running_mean": "branches.1.blocks.0.norm1.running_mean",
    "scala2.1.op.4.weight": "branches.1.blocks.1.depthwise2.weight",
    "scala3.0.op.5.weight": "branches.2.blocks.0.pointwise2.weight",
    "scala3.0.op.6.bias": "branches.2.blocks.0.norm2.bias",
    "scala1.1.residual.weight": "branches.0.blocks.1.shortcut.weight",
    "scala1.1.res_bn.weight": "branches.0.blocks.1.shortcut_norm.weight",
    "scala1.5.conv1.weight": "branches.0.blocks.5.conv1.weight",
    "scala1.5.bn1.weight": "branches.0.blocks.5.norm1.weight",
    "scala1.3.conv2.weight": "branches.0.blocks.3.conv2.weight",
    "scala1.3.bn2.num_batches_tracked": "branches.0.blocks.3.norm2.num_batches_tracked",
}


@pytest.mark.parametrize(("theirs", "ours"), EXAMPLES.items())
def test_single_keys_with_and_without_a_data_parallel_prefix(theirs, ours):
    assert from_reference({theirs: "anything"}) == {ours: "anything"}
    assert from_reference({f"module.{theirs}": 3}) == {ours: 3}


def test_the_examples_are_published_keys():
    published = {key for arch in EXPECTED_COUNTS for key in published_keys(arch)}
    assert set(EXAMPLES) <= published


@pytest.mark.parametrize(
    "key",
    [
        "",
        "weight",
        "conv2.weight",
        "layer0.0.conv1.weight",
        "layer1.0.conv3.weight",
        "layer1.0.conv1.extra.weight",
        "layer1.conv1.weight",
        "layer1.0.spike1.decay",
        "conv0.2.decay",
        "scala1.0.op.3.weight",
        "scala0.0.op.0.weight",
        "fc0.weight",
        "classifier.1.weight",
        "module.module.fc.weight",
        "stages.0.0.unit1.conv.weight",
        "conv0.0.weight ",
        "xconv1.weight",
        7,
    ],
)
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


def test_importable_from_checkpoint():
    assert util.checkpoint.from_reference is from_reference
