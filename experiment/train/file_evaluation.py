"""--evaluate: the accuracy of every head of a checkpoint, and nothing is trained."""

from __future__ import annotations

from typing import Any

from experiment.data_description import describe_data
from experiment.train.evaluation import evaluate
from experiment.train.failure import refuse_lost_output
from experiment.train.resume import compatible_weights, load_weights
from experiment.train.task import Request, Training
from model import RateModel


def evaluate_file(net: RateModel, training: Training, request: Request) -> dict[str, Any]:
    """Print and return the accuracy of every head of a checkpoint on the test set."""
    path, data = request.evaluate, describe_data(training.data)
    load_weights(net, compatible_weights(path, request.identity, data), path)
    result = evaluate(net, training, "test")
    if training.group.is_first:
        *branches, own = result["head_top1"]
        for number, accuracy in enumerate(branches, 1):
            print(f"branch {number}: top-1 {accuracy:.2f} %")
        own_line = f"spiking network: top-1 {own:.2f} %, top-5 {result['top5']:.2f} %"
        print(f"{own_line}, loss {result['loss']:.4f}, {result['samples']} test images")
        refuse_lost_output()
    return result
