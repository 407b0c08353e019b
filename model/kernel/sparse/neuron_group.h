// Leaky integrate-and-fire neurons at work, some vectors of them at a time through all time steps,
// in registers or close by: one read of the current, one byte written for each spike.
//
//   x_t = scale current_t + shift + residual_scale residual_t + residual_shift
//   v_t = decay u_{t-1} + x_t,   s_t = [v_t >= threshold]
//   u_t = v_t - threshold s_t (soft reset), or v_reset where s_t is 1 (hard reset)
//
//   eligibility = 1/T sum_t f_t g_t
//   g_t = 4 e / (1 + e)^2,   e = exp(-4 |v_t - threshold|)     (= sigmoid' of slope 4)
//   f_1 = 1,   f_{t+1} = 1 + decay f_t du_t/dv_t   (model/functional.py, `Neuron.next_sensitivity`)
//
// No sum is contracted with a product (-ffp-contract=off), so that potentials are rounded as plain
// PyTorch rounds them.

#pragma once

#include <algorithm>
#include <cstdint>

#include "neuron_layer.h"
#include "power_of_two.h"
#include "vector.h"

namespace spiking {

constexpr int64_t BLOCK = 1024;  // neurons whose channels' values are spread at a time
constexpr int64_t TOGETHER = 4;  // vectors, whose steps do not wait for each other
constexpr double SLOPE = 4;      // of the surrogate gradient, per unit of potential

// The values of the neurons of a block.
template <typename scalar>
struct Spread {
  scalar values[BLOCK];
  int64_t phase = -1, known = 0;  // where among the channels the first is; how many are there

  void fill(const PerChannel<scalar>& by, int64_t first, int64_t count) {
    if (!by.values) return;
    const int64_t start = first % (by.channels * by.run);
    if (start == phase && count <= known) return;  // as for the block before
    phase = start, known = count;
    for (int64_t i = 0; i < count;) {
      const int64_t place = first + i, channel = place / by.run % by.channels;
      const int64_t left = by.run == 1 ? by.channels - channel : by.run - place % by.run;
      const int64_t n = std::min(left, count - i);
      if (by.run == 1)
        std::copy_n(by.values + channel, n, values + i);
      else
        std::fill_n(values + i, n, by.values[channel]);
      i += n;
    }
  }
};

// `vectors` registers of `lanes` neurons each; none waits for another's operations.
template <typename scalar, typename added, int64_t lanes, int64_t vectors>
struct Group {
  using Values = Vector<scalar, lanes>;
  using type = typename Values::type;
  static constexpr int64_t size = vectors * lanes;

  // scale, shift, residual_scale: of these neurons.
  void run(const Layer<scalar, added>& layer, int64_t first, const scalar* scale,
           const scalar* shift, const scalar* residual_scale) {
    const auto& neuron = layer.neuron;
    const auto& sums = layer.sums;
    for (int64_t k = 0; k < vectors; ++k) {
      f[k] = type{} + 1;
      if (!layer.at_rest) u[k] = Values::load(layer.potential + first + k * lanes);
    }
    for (int64_t t = 0; t < layer.T; ++t) {
      const scalar* current = layer.current.at(t, first);
      const added* residual = layer.residual.at(t, first);
      uint8_t* spikes = layer.train + t * layer.neurons + first;
      const bool from_rest = layer.at_rest && t == 0;
      type v[vectors], spike[vectors];
      for (int64_t k = 0; k < vectors; ++k) {
        const int64_t at = k * lanes;
        const type x = Values::load(current + at);
        v[k] = x;
        if (layer.scale.values) v[k] = x * Values::load(scale + at) + Values::load(shift + at);
        if (residual) {
          const type other = Values::load(residual + at);
          v[k] += layer.residual_scale.values ? other * Values::load(residual_scale + at) : other;
        }
        if (!from_rest) v[k] = neuron.decay * u[k] + v[k];
        spike[k] = v[k] >= neuron.threshold ? type{} + 1 : type{};
        Values::store(spikes + at, spike[k]);
        if (sums.mean) mean[k] += x;
        rate[k] += spike[k];
        u[k] = neuron.is_hard ? (spike[k] > 0 ? type{} + neuron.v_reset : v[k])
                              : v[k] - neuron.threshold * spike[k];
      }
      if (sums.eligibility) remember(neuron, v, spike);
      number = 1 + neuron.decay * number;
    }
    write(layer, first);
  }

 private:
  type u[vectors] = {}, mean[vectors] = {}, rate[vectors] = {}, eligibility[vectors] = {};
  type f[vectors];
  scalar number = 1;  // f where that is one number

  // The sum of f g of this time step, and the next f; number: f where that is one.
  void remember(const Neuron<scalar>& neuron, const type (&v)[vectors],
                const type (&spike)[vectors]) {
    type e[vectors];
    for (int64_t k = 0; k < vectors; ++k) {
      const type above = v[k] - neuron.threshold;
      e[k] = scalar(SLOPE / LN_2) * (above < 0 ? -above : above);
    }
    power_of_two_of_minus<scalar, lanes, vectors>(e);
    for (int64_t k = 0; k < vectors; ++k) {
      const type g = scalar(SLOPE) * e[k] / ((1 + e[k]) * (1 + e[k]));
      if (neuron.f_is_number) {
        eligibility[k] += number * g;
        continue;
      }
      eligibility[k] += f[k] * g;
      const type through = neuron.is_hard ? 1 - spike[k] - (v[k] - neuron.v_reset) * g
                                          : 1 - neuron.threshold * g;
      f[k] = 1 + neuron.decay * f[k] * through;
    }
  }

  void write(const Layer<scalar, added>& layer, int64_t first) const {
    const auto& sums = layer.sums;
    const scalar T = layer.T;
    for (int64_t k = 0; k < vectors; ++k) {
      const int64_t at = first + k * lanes;
      if (layer.potential) Values::store(layer.potential + at, u[k]);
      if (sums.mean) Values::store(sums.mean + at, mean[k] / T);
      if (sums.counts) Values::store(sums.counts + at, rate[k]);
      if (sums.rate) Values::store(sums.rate + at, rate[k] / T);
      if (sums.eligibility) Values::store(sums.eligibility + at, eligibility[k] / T);
    }
  }
};

// Neurons begin .. end of a layer, which is a copy: no store into a map can change it.
template <typename scalar, typename added>
void fire_range(const Layer<scalar, added> layer, int64_t begin, int64_t end) {
  using Many = Group<scalar, added, Vector<scalar>::lanes, TOGETHER>;
  using One = Group<scalar, added, 1, 1>;  // at the end of a map
  Spread<scalar> scale, shift, residual_scale;
  for (int64_t first = begin; first < end; first += BLOCK) {
    const int64_t count = std::min(BLOCK, end - first);
    scale.fill(layer.scale, first, count);
    shift.fill(layer.shift, first, count);
    residual_scale.fill(layer.residual_scale, first, count);
    const auto run = [&](auto group, int64_t i) {
      group.run(layer, first + i, scale.values + i, shift.values + i, residual_scale.values + i);
    };
    int64_t i = 0;
    for (; i + Many::size <= count; i += Many::size) run(Many{}, i);
    for (; i < count; ++i) run(One{}, i);
  }
}

}  // namespace spiking
