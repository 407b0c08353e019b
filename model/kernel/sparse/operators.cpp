// The operators as PyTorch knows them. They are headers, compiled together here: PyTorch's own
// headers take the compiler longer than all of them.

#include <torch/library.h>

#include "convolution_gradients.h"
#include "neurons.h"
#include "spike_convolution.h"

TORCH_LIBRARY_FRAGMENT(spiking_cpu, library) {
  library.def("arrange_weight(Tensor weight) -> Tensor");
  library.def("rate_that_pays(Tensor weight) -> float");
  library.def(
      "spike_convolution(Tensor spikes, Tensor weight, Tensor? bias, int[2] stride, "
      "int[2] padding, float? most=None, Tensor? arranged=None) -> Tensor");
  library.def(
      "convolution_gradients(Tensor gradient, Tensor maps, Tensor weight) -> (Tensor, Tensor)");
  library.def(
      "fire(Tensor current, Tensor? scale, Tensor? shift, Tensor? residual, "
      "Tensor? residual_scale, int run, bool at_rest, Tensor(a!) train, Tensor(b!)? potential, "
      "Tensor(c!)? mean, Tensor(d!)? rate, Tensor(e!)? eligibility, Tensor(f!)? counts, int T, "
      "float decay, float threshold, float? v_reset, bool detach_reset) -> ()");
}

TORCH_LIBRARY_IMPL(spiking_cpu, CPU, library) {
  library.impl("arrange_weight", &spiking::arrange_weight);
  library.impl("rate_that_pays", &spiking::rate_that_pays);
  library.impl("spike_convolution", &spiking::spike_convolution);
  library.impl("convolution_gradients", &spiking::convolution_gradients);
  library.impl("fire", &spiking::fire);
}
