"""Spiking networks, rate-based backpropagation and self-distillation.

Read in this order: functional (the equations), rate_pair (an activation), rate_gradient (one pass,
gradients at the rate), kernel (which of kernel_cpu, kernel_triton and kernel_compiled runs),
spike_convolution (skips silent inputs), batch_norm, online (one time step at a time), layer,
branch, teacher, distillation, method (what trains how), abc_model, resnet, preact_resnet,
ms_resnet, sew_resnet, vgg, registry. For inference: folded, fold.
"""

from model.abc_model import RateModel
from model.kernel import Execution
from model.method import METHODS
from model.registry import MODELS, STEMS, build_model
from model.teacher import TEACHERS

__all__ = ["METHODS", "MODELS", "STEMS", "TEACHERS", "Execution", "RateModel", "build_model"]
