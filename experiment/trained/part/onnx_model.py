"""A network as an ONNX model, for onnxruntime and other runtimes that know nothing of torch.

model.onnx is the torch.export program in ONNX's own operations, the time steps unrolled: images in,
logits of every time step out, any number of images. Its metadata entry "description" is that of
model.safetensors.

Shapes: T time steps, B batch, C channels, H x W pixels, K classes.
"""

from __future__ import annotations

import io
import json
import operator
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import onnxruntime
import torch
from torch import Tensor

from model.inference.folded import FoldedNetwork
from util.file.atomic import write_atomically

NEAR = 1e-4  # by which rounding moves a logit, of its value or at all; a flipped spike moves more


class LogitAgreement(NamedTuple):
    """How two networks answer the same images.

    answers: images to which both give the same class, or one that ties with it up to NEAR; logits:
    how many were compared; equal: how many of them up to NEAR; largest: difference between two.
    """

    images: int
    answers: int
    logits: int
    equal: int
    largest: float

    def sentence(self) -> str:
        return (
            f"the same class for {self.answers:,} of {self.images:,} images, "
            f"{100 * self.equal / self.logits:.2f} % of the logits equal to {NEAR:g}, "
            f"largest difference {self.largest:.1e}"
        )


def write_onnx(
    program: torch.export.ExportedProgram, description: dict[str, Any], path: Path
) -> None:
    """Write the program of `export_program`, whole or not at all."""
    name = "frames" if description["kind"] == "events" else "images"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch's own
        written = torch.onnx.export(
            program, dynamo=True, verbose=False, input_names=[name], output_names=["logits"]
        )
    model = written.model
    for shape in (value.shape for value in (*model.graph.inputs, *model.graph.outputs)):
        for i, side in enumerate(shape):
            shape[i] = side if isinstance(side, int) else "batch"  # torch names it s77
    model.metadata_props["description"] = json.dumps(description)
    content = io.BytesIO()
    written.save(content)
    write_atomically(path, content.getvalue())


def read_onnx(path: Path) -> onnxruntime.InferenceSession:
    """The model in a file, on as many threads as torch has."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    # By its content, since onnxruntime takes no path that is no UTF-8.
    return onnxruntime.InferenceSession(path.read_bytes(), options, ["CPUExecutionProvider"])


@torch.no_grad()
def onnx_agreement(
    net: FoldedNetwork, session: onnxruntime.InferenceSession, batches: Iterable[Tensor]
) -> LogitAgreement:
    """The folded network against the model that was read back; batches as the network takes them.

    Spikes that rounding flips change logits: the runtime adds up in an order of its own.
    """
    (given,) = session.get_inputs()
    total = LogitAgreement(0, 0, 0, 0, 0.0)
    for x in batches:
        expected = net(x)
        found = torch.from_numpy(session.run(None, {given.name: x.numpy()})[0])
        mean, chosen = expected.mean(0), found.mean(0).argmax(-1, keepdim=True)
        same = _near(mean.gather(-1, chosen), mean.amax(-1, keepdim=True))
        equal = _near(expected, found)
        addends = (len(same), int(same.sum()), equal.numel(), int(equal.sum()))
        largest = max(total.largest, (expected - found).abs().max().item())
        total = LogitAgreement(*map(operator.add, total, addends), largest)
    return total


def _near(a: Tensor, b: Tensor) -> Tensor:
    return torch.isclose(a, b, rtol=NEAR, atol=NEAR, equal_nan=True)
