"""Spiking networks, rate-based backpropagation and self-distillation.

Read in this order: functional (the equations), rate_gradient (one pass, gradients at the rate),
kernel (which of kernel_cpu, kernel_triton and kernel_compiled runs), batch_norm, layer, branch,
distillation, abc_model, resnet, preact_resnet, registry.
"""

from model.abc_model import METHODS, RateModel
from model.kernel import Execution
from model.registry import MODELS, build_model

__all__ = ["METHODS", "MODELS", "Execution", "RateModel", "build_model"]
