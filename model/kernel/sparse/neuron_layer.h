// What a layer of neurons reads and writes, in the maps' memory.

#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>

namespace spiking {

template <typename scalar>
struct Neuron {
  scalar decay, threshold, v_reset;
  bool is_hard;
  bool f_is_number;  // the sensitivity f (neuron_group.h) hangs on no potential

  Neuron(double decay, double threshold, std::optional<double> v_reset, bool detach_reset)
      : decay(decay),
        threshold(threshold),
        v_reset(v_reset.value_or(0)),
        is_hard(v_reset),
        f_is_number(!v_reset && detach_reset) {}
};

// Maps (1 or T, neurons); those of one time step stand for all. No data: none.
template <typename value>
struct Maps {
  const value* data = nullptr;
  int64_t step = 0;  // values from one time step to the next

  static Maps of(const std::optional<at::Tensor>& maps, int64_t neurons) {
    if (!maps) return {};
    return {maps->const_data_ptr<value>(), maps->numel() == neurons ? 0 : neurons};
  }
  const value* at(int64_t t, int64_t neuron) const {
    return data ? data + t * step + neuron : nullptr;
  }
};

// A value for each channel, and how channels lie in memory: `run` neighbours have the same.
template <typename scalar>
struct PerChannel {
  const scalar* values = nullptr;
  int64_t channels = 1, run = 1;
};

// What is summed over time, each (neurons) or not wanted.
template <typename scalar>
struct Sums {
  scalar *mean = nullptr, *rate = nullptr, *eligibility = nullptr;
  uint8_t* counts = nullptr;
};

template <typename scalar, typename added>
struct Layer {
  Maps<scalar> current;
  Maps<added> residual;
  PerChannel<scalar> scale, shift, residual_scale;  // shift: that of both
  Neuron<scalar> neuron;
  bool at_rest;
  int64_t T, neurons;
  uint8_t* train;
  scalar* potential;  // before the first step, if not at_rest; after the last
  Sums<scalar> sums;
};

}  // namespace spiking
