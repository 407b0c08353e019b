"""Spiking networks, rate-based backpropagation and self-distillation.

Read in this order, it is the paper:

equations   functional (neuron, eligibility, batch norm on rates)
method      activation (the verbs), rate_pair (the pair of spike train and rate, and how it passes
            each layer), rate_gradient (its gradients), batch_norm, convolution; spike_train
            (inference)
networks    layer, branch, branch_gradient, stage, abc_model (the forward pass), resnet,
            preact_resnet
training    distillation (teacher and loss), method (all ways to train), registry (by name)

Behind one-way doors, through which the files above pass at a few places alone:

kernel/     the hot functions: reference, CPU, torch.compile, Triton, and the choice among them;
            seen as `model.kernel`, never by its files
baseline/   other ways to train (through time, checkpointed, online) and other teachers; seen by
            method and registry
zoo/        networks of the field that are not in the paper; seen by registry
inference/  trained networks at work: batch norms folded, one time step at a time; not seen
"""

from model.abc_model import RateModel
from model.branch_gradient import BRANCH_GRADIENTS
from model.kernel import Execution
from model.method import METHODS
from model.registry import MODELS, STEMS, TEACHERS, build_model

__all__ = [
    "BRANCH_GRADIENTS",
    "METHODS",
    "MODELS",
    "STEMS",
    "TEACHERS",
    "Execution",
    "RateModel",
    "build_model",
]
