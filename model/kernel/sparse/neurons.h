// Leaky integrate-and-fire neurons whose spikes are bytes, with what a rate gradient needs of them:
// groups of them (`neuron_group.h`) on all threads.
//
// Maps of all arguments lie in memory in one order, which the caller sees to.

#pragma once

#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>

#include "neuron_group.h"

namespace spiking {

using Optional = std::optional<at::Tensor>;

constexpr int64_t GRAIN = 32 * BLOCK;  // neurons that are worth a thread

template <typename scalar>
scalar* data_of(const Optional& maps) {
  return maps ? maps->mutable_data_ptr<scalar>() : nullptr;
}

struct Arguments {
  const at::Tensor& current;
  const Optional &scale, &shift, &residual, &residual_scale;
  int64_t run;  // neighbours in memory that are of one channel
  const at::Tensor& train;
  const Optional &potential, &mean, &rate, &eligibility, &counts;
  int64_t T;

  int64_t neurons() const { return train.numel() / T; }

  void check() const {
    const auto dtype = current.scalar_type();
    TORCH_CHECK(train.scalar_type() == at::kByte && are_over_time(train),
                "no train of bytes over ", T, " time steps: ", train.dtype(), " ", train.sizes());
    TORCH_CHECK(are_over_time(current), "the current ", current.sizes(),
                " does not fit the train ", train.sizes());
    TORCH_CHECK(!residual || (are_over_time(*residual) && (residual->scalar_type() == at::kByte ||
                                                           residual->scalar_type() == dtype)),
                "the residual does not fit the current ", current.sizes());
    for (const auto* maps : {&potential, &mean, &rate, &eligibility})
      TORCH_CHECK(!*maps || are_of_neurons(**maps, dtype),
                  "a map of the neurons does not fit the train ", train.sizes());
    TORCH_CHECK(!counts || (are_of_neurons(*counts, at::kByte) && T <= 255),
                "the counts do not fit the train ", train.sizes());
    for (const auto* values : {&scale, &shift, &residual_scale})
      TORCH_CHECK(!*values || ((*values)->scalar_type() == dtype && (*values)->is_contiguous() &&
                               neurons() % ((*values)->numel() * run) == 0),
                  "the values of the channels do not fit the train ", train.sizes());
    TORCH_CHECK(bool(scale) == bool(shift), "scale and shift come together");
    TORCH_CHECK(bool(rate) == bool(eligibility), "rate and eligibility come together");
  }

 private:
  bool are_over_time(const at::Tensor& maps) const {
    return (maps.numel() == neurons() || maps.numel() == T * neurons()) &&
           maps.is_non_overlapping_and_dense();
  }
  bool are_of_neurons(const at::Tensor& maps, at::ScalarType dtype) const {
    return maps.numel() == neurons() && maps.scalar_type() == dtype &&
           maps.is_non_overlapping_and_dense();
  }
};

template <typename scalar, typename added>
void fire_all(const Arguments& given, const Neuron<scalar>& neuron, bool at_rest) {
  const auto per_channel = [&](const Optional& values) {
    if (!values) return PerChannel<scalar>{};
    return PerChannel<scalar>{values->template const_data_ptr<scalar>(), values->numel(),
                              given.run};
  };
  const int64_t neurons = given.neurons();
  const Layer<scalar, added> layer{
      Maps<scalar>::of(given.current, neurons),
      Maps<added>::of(given.residual, neurons),
      per_channel(given.scale),
      per_channel(given.shift),
      per_channel(given.residual_scale),
      neuron,
      at_rest,
      given.T,
      neurons,
      given.train.mutable_data_ptr<uint8_t>(),
      data_of<scalar>(given.potential),
      {data_of<scalar>(given.mean), data_of<scalar>(given.rate), data_of<scalar>(given.eligibility),
       data_of<uint8_t>(given.counts)}};
  at::parallel_for(0, neurons, GRAIN,
                   [&](int64_t begin, int64_t end) { fire_range(layer, begin, end); });
}

inline void fire(const at::Tensor& current, const Optional& scale, const Optional& shift,
                 const Optional& residual, const Optional& residual_scale, int64_t run,
                 bool at_rest, const at::Tensor& train, const Optional& potential,
                 const Optional& mean, const Optional& rate, const Optional& eligibility,
                 const Optional& counts, int64_t T, double decay, double threshold,
                 std::optional<double> v_reset, bool detach_reset) {
  const Arguments given{current, scale,     shift, residual, residual_scale, run,
                        train,   potential, mean,  rate,     eligibility,    counts, T};
  if (given.neurons() == 0) return;
  given.check();
  const bool of_bytes = residual && residual->scalar_type() == at::kByte;
  AT_DISPATCH_FLOATING_TYPES(current.scalar_type(), "fire", [&] {
    const auto run_all = of_bytes ? fire_all<scalar_t, uint8_t> : fire_all<scalar_t, scalar_t>;
    run_all(given, {decay, threshold, v_reset, detach_reset}, at_rest);
  });
}

}  // namespace spiking
