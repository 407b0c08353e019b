"""ONNX models, read back by onnxruntime, against the folded network."""

import copy
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from experiment.trained.part.exported import export_program
from model import MODELS, build_model
from model.inference.fold import fold
from tests.support.trained_run import stir

pytest.importorskip("onnxscript")
onnxruntime = pytest.importorskip("onnxruntime")
from experiment.trained.part.onnx_model import (  # noqa: E402
    onnx_agreement,
    read_onnx,
    write_onnx,
)

SIDE = 32


def make(arch, T=2, **options):
    """A network of this kind, with few blocks: what is exported takes time by their number."""
    torch.manual_seed(2)
    architecture = MODELS[arch]
    few = {"depths": (1, 1)} if "depths" in architecture.options else {}
    MODELS["few"] = architecture._replace(options={**architecture.options, **few})
    try:
        net = build_model("few", num_classes=5, in_channels=2, T=T, width=3, **options)
    finally:
        del MODELS["few"]
    return fold(stir(net).eval())


def written(net, example, folder, kind="images"):
    path = folder / "model.onnx"
    write_onnx(export_program(net, example), {"kind": kind, "class_names": list("abcde")}, path)
    return path


# Together they have every layer and reset; images and frames.
NETWORKS = [
    ("resnet19", {"v_reset": 0.0}, "events"),
    ("preact_resnet18", {"v_reset": -0.2}, "events"),
    ("sew_resnet18", {"decay": 1.0}, "images"),
    ("vggsnn", {"decay": 0.0}, "images"),
]


@pytest.mark.parametrize(("arch", "options", "kind"), NETWORKS)
def test_onnxruntime_gives_the_logits_of_every_step_for_any_number_of_images(
    arch, options, kind, tmp_path
):
    net = make(arch, **options)
    time = (net.T,) if kind == "events" else ()
    batches = [torch.randn(*time, count, 2, SIDE, SIDE) for count in (3, 1, 6)]
    session = read_onnx(written(net, batches[0], tmp_path, kind))
    found = onnx_agreement(net, session, batches)
    assert found.images == found.answers == 10
    assert found.logits == 10 * net.T * 5
    assert found.equal > 0.8 * found.logits, found.sentence()
    (given,), (logits,) = session.get_inputs(), session.get_outputs()
    assert given.name == ("frames" if kind == "events" else "images")
    assert given.shape == [*time, "batch", 2, SIDE, SIDE]
    assert (logits.name, logits.shape) == ("logits", [net.T, "batch", 5])
    about = session.get_modelmeta().custom_metadata_map["description"]
    assert json.loads(about)["class_names"] == list("abcde")


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A network, its session, and images."""
    net, images = make("resnet18", T=1), torch.randn(4, 2, SIDE, SIDE)
    return net, read_onnx(written(net, images, tmp_path_factory.mktemp("small"))), images


@torch.no_grad()
def test_an_agreement_counts_what_differs(small):
    net, session, images = small
    same = onnx_agreement(net, session, [images])
    assert same.sentence().startswith("the same class for 4 of 4 images, 100.00 % of the logits")
    bias = net.classifier[-1].bias
    bias[2] += 100.0
    other = onnx_agreement(net, session, [images, images])
    bias[2] -= 100.0
    logits = session.run(None, {"images": images.numpy()})[0].mean(0)
    right = int((np.argmax(logits, -1) == 2).sum())
    assert (other.images, other.answers) == (8, 2 * right)
    assert (other.logits, other.equal) == (40, 32)
    assert other.largest == pytest.approx(100, rel=1e-4)
    assert other.sentence().startswith(f"the same class for {2 * right} of 8 images, 80.00 %")


@torch.no_grad()
def test_of_classes_that_tie_either_is_right(small):
    net, _, images = small
    tied = copy.deepcopy(net)
    tied.classifier[-1].weight[4] = tied.classifier[-1].weight[3]
    tied.classifier[-1].bias[3:] = 100.0
    other = copy.deepcopy(tied)
    session = SimpleNamespace(
        get_inputs=lambda: [SimpleNamespace(name="images")],
        run=lambda _, given: [other(torch.from_numpy(given["images"])).numpy()],
    )
    for winner, bias, right in ((4, 200.0, 4), (0, 300.0, 0)):
        other.classifier[-1].bias[winner] = bias
        assert onnx_agreement(tied, session, [images]).answers == right
