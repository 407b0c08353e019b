"""Spiking networks, rate-based backpropagation and self-distillation.

Read in this order: functional (the equations), rate_gradient (one pass, gradients at the rate),
kernel (fast versions), layer, branch, distillation, abc_model, resnet, preact_resnet, registry.
"""

from model.abc_model import METHODS, RateModel
from model.registry import MODELS, build_model

__all__ = ["METHODS", "MODELS", "RateModel", "build_model"]
