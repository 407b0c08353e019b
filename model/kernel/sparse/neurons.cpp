// Leaky integrate-and-fire neurons whose spikes are bytes, for inference: nothing for a gradient.
//
//   v_t = decay u_{t-1} + (current_t + residual_t),   s_t = [v_t >= threshold]
//   u_t = v_t - threshold s_t (soft reset), or v_reset where s_t is 1 (hard reset)
//
// Each block of neurons runs through all time steps while its potentials stay in the first-level
// cache: one read of the current, one byte written for each spike. No sum is contracted with a
// product (-ffp-contract=off), so that spikes are those of plain PyTorch.
//
// Maps of all arguments lie in memory in one order, which the caller sees to.

#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <torch/library.h>

#include <algorithm>
#include <cstdint>
#include <optional>

namespace {

constexpr int64_t BLOCK = 2048;  // neurons whose potentials are in the cache
constexpr int64_t GRAIN = 16 * BLOCK;

// Maps (1 or T, neurons); those of one time step stand for all.
template <typename value>
struct Maps {
  const value* data = nullptr;
  int64_t step = 0;  // values from one time step to the next

  static Maps of(const at::Tensor& maps, int64_t neurons) {
    return {maps.const_data_ptr<value>(), maps.numel() == neurons ? 0 : neurons};
  }
  const value* at(int64_t t, int64_t neuron) const { return data + t * step + neuron; }
};

struct Constants {
  double decay, threshold;
  std::optional<double> v_reset;
};

// One time step of `count` neurons; v: room for their potentials before the reset.
template <typename scalar, typename added>
void step(const scalar* __restrict__ x, const added* __restrict__ residual, bool from_rest,
          const Constants& constants, int64_t count, scalar* __restrict__ u, scalar* __restrict__ v,
          uint8_t* __restrict__ spikes) {
  const scalar decay = constants.decay, threshold = constants.threshold;
  const scalar reset = constants.v_reset.value_or(0);
  if (residual)
    for (int64_t i = 0; i < count; ++i) v[i] = x[i] + scalar(residual[i]);
  else
    std::copy_n(x, count, v);
  if (!from_rest)
    for (int64_t i = 0; i < count; ++i) v[i] = decay * u[i] + v[i];
  if (constants.v_reset)
    for (int64_t i = 0; i < count; ++i) u[i] = v[i] >= threshold ? reset : v[i];
  else
    for (int64_t i = 0; i < count; ++i) u[i] = v[i] - (v[i] >= threshold ? threshold : scalar(0));
  for (int64_t i = 0; i < count; ++i) spikes[i] = v[i] >= threshold;
}

template <typename scalar, typename added>
void fire_all(const at::Tensor& current, const std::optional<at::Tensor>& residual, bool at_rest,
              const Constants& constants, at::Tensor& train, at::Tensor& potential) {
  const int64_t neurons = potential.numel(), T = train.numel() / neurons;
  const auto x = Maps<scalar>::of(current, neurons);
  const auto r = residual ? Maps<added>::of(*residual, neurons) : Maps<added>{};
  auto* s = train.mutable_data_ptr<uint8_t>();
  auto* u = potential.mutable_data_ptr<scalar>();
  at::parallel_for(0, neurons, GRAIN, [&](int64_t begin, int64_t end) {
    scalar v[BLOCK];
    for (int64_t first = begin; first < end; first += BLOCK)
      for (int64_t t = 0; t < T; ++t)
        step<scalar, added>(x.at(t, first), residual ? r.at(t, first) : nullptr, at_rest && t == 0,
                            constants, std::min(BLOCK, end - first), u + first, v,
                            s + t * neurons + first);
  });
}

// current (B, ...) or (T*B, ...); residual likewise, in its dtype or bytes; at_rest: whether what
// potential holds does not count. Fills train (T*B, ...), bytes, and potential (B, ...).
void fire(const at::Tensor& current, const std::optional<at::Tensor>& residual, bool at_rest,
          at::Tensor& train, at::Tensor& potential, double decay, double threshold,
          std::optional<double> v_reset) {
  const int64_t neurons = potential.numel();
  if (neurons == 0) return;
  const auto fits = [&](const at::Tensor& maps) {
    return (maps.numel() == neurons || maps.numel() == train.numel()) &&
           maps.is_non_overlapping_and_dense();
  };
  TORCH_CHECK(train.scalar_type() == at::kByte && train.numel() % neurons == 0 && fits(train),
              "no train of bytes for potentials ", potential.sizes(), ": ", train.dtype(), " ",
              train.sizes());
  TORCH_CHECK(current.scalar_type() == potential.scalar_type() && fits(current), "the current ",
              current.sizes(), " does not fit potentials ", potential.sizes());
  TORCH_CHECK(!residual || fits(*residual), "the residual does not fit the current");
  const Constants constants{decay, threshold, v_reset};
  AT_DISPATCH_FLOATING_TYPES(current.scalar_type(), "fire", [&] {
    const bool of_bytes = residual && residual->scalar_type() == at::kByte;
    const auto run = of_bytes ? fire_all<scalar_t, uint8_t> : fire_all<scalar_t, scalar_t>;
    run(current, residual, at_rest, constants, train, potential);
  });
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(spiking_cpu, library) {
  library.def(
      "fire(Tensor current, Tensor? residual, bool at_rest, Tensor(a!) train, "
      "Tensor(b!) potential, float decay, float threshold, float? v_reset) -> ()");
}

TORCH_LIBRARY_IMPL(spiking_cpu, CPU, library) { library.impl("fire", &fire); }
