"""Spiking networks, rate-based backpropagation and self-distillation.

Read in this order:

equations   functional
method      rate_pair (an activation), rate_gradient (one pass, gradients at the rate), batch_norm,
            teacher, distillation; method (all ways to train), through_time (BPTT), online (one time
            step at a time), recompute
networks    layer, branch, stage, input, abc_model, resnet, preact_resnet, ms_resnet, sew_resnet,
            vgg, registry
inference   folded, fold
speed       kernel (which one runs), kernel_op, map_rows, kernel_cpu, kernel_cpu_eligibility,
            kernel_compiled, kernel_triton, kernel_triton_backward; convolution, spike_convolution,
            compiled_operator
"""

from model.abc_model import RateModel
from model.kernel import Execution
from model.method import METHODS
from model.registry import MODELS, STEMS, build_model
from model.teacher import TEACHERS

__all__ = ["METHODS", "MODELS", "STEMS", "TEACHERS", "Execution", "RateModel", "build_model"]
