// A block of leaky integrate-and-fire neurons at work, small enough for the first-level cache: all
// time steps, one read of the current, one byte written for each spike.
//
//   x_t = scale current_t + shift + residual_scale residual_t + residual_shift
//   v_t = decay u_{t-1} + x_t,   s_t = [v_t >= threshold]
//   u_t = v_t - threshold s_t (soft reset), or v_reset where s_t is 1 (hard reset)
//
//   eligibility e = 1/T sum_t f_t g_t
//   g_t = 4 (1/4 - c_t^2),   c_t = sigmoid(4 (v_t - threshold)) - 1/2
//   f_1 = 1,   f_{t+1} = 1 + decay f_t du_t/dv_t   (model/functional.py, `Neuron.next_sensitivity`)
//
// No sum is contracted with a product (-ffp-contract=off), so that potentials are rounded as plain
// PyTorch rounds them.

#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/cpu/vec/vec.h>

#include <algorithm>
#include <cstdint>
#include <optional>

namespace spiking {

constexpr int64_t BLOCK = 1024;  // neurons
constexpr double SLOPE = 4;      // of the surrogate gradient, per unit of potential

struct Neuron {
  double decay, threshold;
  std::optional<double> v_reset;
  bool detach_reset;

  bool f_is_number() const { return !v_reset && detach_reset; }
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

  // The values of `count` neurons from `first` on.
  void spread(int64_t first, int64_t count, scalar* out) const {
    for (int64_t i = 0; i < count;) {
      const int64_t place = first + i, channel = place / run % channels;
      const int64_t n = std::min(run == 1 ? channels - channel : run - place % run, count - i);
      if (run == 1)
        std::copy_n(values + channel, n, out + i);
      else
        std::fill_n(out + i, n, values[channel]);
      i += n;
    }
  }
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
  Neuron neuron;
  bool at_rest;
  int64_t T, neurons;
  uint8_t* train;
  scalar* potential;  // before the first step, if not at_rest; after the last
  Sums<scalar> sums;
};

// `out` = sigmoid(SLOPE (v - threshold)) - 1/2, of a whole block.
template <typename scalar>
void centred_sigmoid(const scalar* v, scalar threshold, scalar* out) {
  using vector = at::vec::Vectorized<scalar>;
  const vector one(1), half(0.5), slope(-SLOPE), offset(SLOPE * threshold);
  for (int64_t i = 0; i < BLOCK; i += vector::size()) {
    const auto negative = vector::loadu(v + i) * slope + offset;
    (one / (one + negative.exp()) - half).store(out + i);
  }
}

// A block of neurons at work; all arrays are as long as the block.
template <typename scalar, typename added>
struct Block {
  scalar v[BLOCK] = {};  // numbers also behind a shorter block's end, where sigmoids run on
  scalar u[BLOCK], scale[BLOCK], shift[BLOCK], residual_scale[BLOCK];
  scalar mean[BLOCK], rate[BLOCK], eligibility[BLOCK], c[BLOCK], f[BLOCK];

  void run(const Layer<scalar, added>& layer, int64_t first, int64_t count) {
    const auto& sums = layer.sums;
    if (layer.scale.values) layer.scale.spread(first, count, scale);
    if (layer.shift.values) layer.shift.spread(first, count, shift);
    if (layer.residual_scale.values) layer.residual_scale.spread(first, count, residual_scale);
    if (!layer.at_rest) std::copy_n(layer.potential + first, count, u);
    std::fill_n(mean, count, 0);
    std::fill_n(rate, count, 0);
    std::fill_n(eligibility, count, 0);
    std::fill_n(f, count, 1);
    scalar number = 1;  // f where that is one number
    for (int64_t t = 0; t < layer.T; ++t) {
      const scalar* x = layer.current.at(t, first);
      uint8_t* spikes = layer.train + t * layer.neurons + first;
      charge(layer, x, layer.residual.at(t, first), layer.at_rest && t == 0, count);
      if (sums.mean) add(x, count, mean);
      for (int64_t i = 0; i < count; ++i) spikes[i] = v[i] >= scalar(layer.neuron.threshold);
      if (sums.eligibility) {
        add(spikes, count, rate);
        remember(layer.neuron, scalar(1.0 / layer.T), number, count);
        number = 1 + layer.neuron.decay * number;
      }
      reset(layer.neuron, count);
    }
    if (layer.potential) std::copy_n(u, count, layer.potential + first);
    write(layer, first, count);
  }

 private:
  // v = decay u + x_t
  void charge(const Layer<scalar, added>& layer, const scalar* x, const added* residual,
              bool from_rest, int64_t count) {
    const scalar decay = layer.neuron.decay;
    if (layer.scale.values)
      for (int64_t i = 0; i < count; ++i) v[i] = x[i] * scale[i] + shift[i];
    else
      std::copy_n(x, count, v);
    if (residual && layer.residual_scale.values)
      for (int64_t i = 0; i < count; ++i) v[i] += scalar(residual[i]) * residual_scale[i];
    else if (residual)
      for (int64_t i = 0; i < count; ++i) v[i] += scalar(residual[i]);
    if (!from_rest)
      for (int64_t i = 0; i < count; ++i) v[i] = decay * u[i] + v[i];
  }

  // The eligibility's term of this time step, and the next f; number: f where that is one.
  void remember(const Neuron& neuron, scalar share, scalar number, int64_t count) {
    const scalar decay = neuron.decay, threshold = neuron.threshold;
    const scalar v_reset = neuron.v_reset.value_or(0), slope = SLOPE;
    centred_sigmoid<scalar>(v, threshold, c);
    for (int64_t i = 0; i < count; ++i) c[i] = slope * (scalar(0.25) - c[i] * c[i]);  // g
    if (neuron.f_is_number()) {
      for (int64_t i = 0; i < count; ++i) eligibility[i] += share * number * c[i];
      return;
    }
    for (int64_t i = 0; i < count; ++i) eligibility[i] += share * f[i] * c[i];
    if (neuron.v_reset)
      for (int64_t i = 0; i < count; ++i)
        f[i] = 1 + decay * f[i] * ((v[i] >= threshold ? 0 : 1) - (v[i] - v_reset) * c[i]);
    else
      for (int64_t i = 0; i < count; ++i) f[i] = 1 + decay * f[i] * (1 - threshold * c[i]);
  }

  void reset(const Neuron& neuron, int64_t count) {
    const scalar threshold = neuron.threshold, v_reset = neuron.v_reset.value_or(0);
    if (neuron.v_reset)
      for (int64_t i = 0; i < count; ++i) u[i] = v[i] >= threshold ? v_reset : v[i];
    else
      for (int64_t i = 0; i < count; ++i) u[i] = v[i] - (v[i] >= threshold ? threshold : 0);
  }

  void write(const Layer<scalar, added>& layer, int64_t first, int64_t count) const {
    const auto& sums = layer.sums;
    const scalar T = layer.T;
    if (sums.mean)
      for (int64_t i = 0; i < count; ++i) sums.mean[first + i] = mean[i] / T;
    if (sums.counts)
      for (int64_t i = 0; i < count; ++i) sums.counts[first + i] = uint8_t(rate[i]);
    if (sums.rate)
      for (int64_t i = 0; i < count; ++i) sums.rate[first + i] = rate[i] / T;
    if (sums.eligibility) std::copy_n(eligibility, count, sums.eligibility + first);
  }

  template <typename value>
  static void add(const value* values, int64_t count, scalar* total) {
    for (int64_t i = 0; i < count; ++i) total[i] += values[i];
  }
};

}  // namespace spiking
