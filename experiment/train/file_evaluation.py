"""--evaluate: the accuracy of every head of a checkpoint, and nothing is trained."""

from __future__ import annotations

import sys
from typing import Any

from experiment.data_description import describe_data
from experiment.train.evaluation import evaluate
from experiment.train.failure import refuse_lost_output
from experiment.train.task import Request, Training
from experiment.train.weights import load_whole
from model import RateModel


def evaluate_file(net: RateModel, training: Training, request: Request) -> dict[str, Any]:
    """Print and return the accuracy of every head of a checkpoint on the test set."""
    described = describe_data(training.data)
    doubts = load_whole(net, request.evaluate, request.identity, described)
    result = evaluate(net, training, "test")
    if training.group.is_first:
        for doubt in doubts:
            print(f"warning: {request.evaluate}: {doubt}", file=sys.stderr)
        *branches, own = result["head_top1"]
        for number, accuracy in enumerate(branches, 1):
            print(f"branch {number}: top-1 {accuracy:.2f} %")
        own_line = f"spiking network: top-1 {own:.2f} %, top-5 {result['top5']:.2f} %"
        print(f"{own_line}, loss {result['loss']:.4f}, {result['samples']} test images")
        refuse_lost_output()
    return result
