// A convolution of spikes that adds the weights of the inputs that fire and skips the others. Where
// so many fire that a dense one takes less time, or bytes count several spikes, it is dense.
//
//   out[n, o, i, j] = bias[o] + sum of weight[o, c, a, b] over all c, a, b for which
//                     spikes[n, c, i * stride + a - padding, j * stride + b - padding] is 1
//
// Spikes are packed into words of 64 channels, one bit each. For every word that an output pixel
// reads, the rows of weights (one value for each of `width` output channels) whose bits are set are
// added to sums that stay in registers. 64 rows of weights at a time stay in the first-level cache
// while a tile of output pixels goes by, whose sums stay in the second-level cache.
//
// Names: N maps, Ci input and Co output channels, taps = kernel height * kernel width, words of 64
// input channels, blocks of `width` output channels.

#pragma once

#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <optional>
#include <vector>

#include "packed_spikes.h"
#include "vector.h"

namespace spiking {

// Of the sums that are open at a time: a quarter of the second-level cache of AMD's processors, 512
// KB where vectors have 32 bytes and 1 MB where they have 64.
constexpr int64_t TILE_BYTES = 4096 * VECTOR_BYTES;

// Vectors of output channels that are added up together: as many as are needed, at most eight,
// which registers hold.
inline int64_t vectors_for(int64_t Co, int64_t lanes) {
  constexpr int64_t most = 8;
  int64_t vectors = 1;
  while (vectors < most && vectors * lanes < Co) vectors *= 2;
  return vectors;
}

// (Co, Ci, kernel height, kernel width) -> (blocks, words, taps, WORD, width), 0 where there is no
// channel: rows of `width` output channels, for each input channel.
template <typename scalar>
std::vector<int64_t> arranged_sizes(const at::Tensor& weight) {
  constexpr int64_t lanes = Vector<scalar>::lanes;
  const int64_t width = vectors_for(weight.size(0), lanes) * lanes;
  const int64_t blocks = (weight.size(0) + width - 1) / width;
  const int64_t words = (weight.size(1) + WORD - 1) / WORD;
  return {blocks, words, weight.size(2) * weight.size(3), WORD, width};
}

template <typename scalar>
at::Tensor arrange(const at::Tensor& weight) {
  const int64_t Co = weight.size(0), Ci = weight.size(1);
  at::Tensor arranged = at::zeros(arranged_sizes<scalar>(weight), weight.options());
  const int64_t blocks = arranged.size(0), words = arranged.size(1), taps = arranged.size(2);
  const int64_t width = arranged.size(4);
  const auto* from = weight.const_data_ptr<scalar>();
  auto* to = arranged.mutable_data_ptr<scalar>();
  const int64_t stride_o = weight.stride(0), stride_c = weight.stride(1);
  constexpr int64_t patch = 16;  // output channels whose weights are transposed together
  at::parallel_for(0, blocks * words * taps, 0, [&](int64_t begin, int64_t end) {
    scalar own[patch][WORD + patch];  // with a gap, or neighbours would share the cache's lines
    for (int64_t part = begin; part < end; ++part) {
      const int64_t tap = part % taps, word = part / taps % words, block = part / taps / words;
      const int64_t rows = std::min(WORD, Ci - word * WORD);
      const int64_t columns = std::min(width, Co - block * width);
      const auto* source = from + block * width * stride_o + word * WORD * stride_c +
                           tap / weight.size(3) * weight.stride(2) +
                           tap % weight.size(3) * weight.stride(3);
      auto* target = to + part * WORD * width;
      for (int64_t first = 0; first < columns; first += patch) {
        const int64_t last = std::min(columns, first + patch);
        for (int64_t o = first; o < last; ++o)
          for (int64_t c = 0; c < rows; ++c)
            own[o - first][c] = source[o * stride_o + c * stride_c];
        for (int64_t c = 0; c < rows; ++c)
          for (int64_t o = first; o < last; ++o) target[c * width + o] = own[o - first][c];
      }
    }
  });
  return arranged;
}

inline at::Tensor arrange_weight(const at::Tensor& weight) {
  TORCH_CHECK(weight.dim() == 4, "weight ", weight.sizes(), ": expected four dimensions");
  return AT_DISPATCH_FLOATING_TYPES(weight.scalar_type(), "arrange_weight",
                                    [&] { return arrange<scalar_t>(weight); });
}

// The firing rate up to which skipping takes less time than the dense convolution, estimated in
// cycles of a processor that in each reads, or multiplies and adds, two vectors. For a tap of an
// output pixel, with V vectors of sums:
//   dense   Ci Co / (2 lanes)
//   sparse  blocks (words (4 + 1.5 V) + rate Ci max(3, 0.55 V))
// A word of spikes costs the sums' way from and to memory; a spike costs a row of weights, or the
// wait for the addition before it. Fitted on two processors (docs/performance.md).
inline double rate_that_pays(const at::Tensor& weight) {
  const double Co = weight.size(0), Ci = weight.size(1);
  const int64_t lanes = VECTOR_BYTES / c10::elementSize(weight.scalar_type());
  const int64_t V = vectors_for(weight.size(0), lanes);
  const double blocks = std::ceil(Co / (V * lanes)), words = std::ceil(Ci / WORD);
  const double dense = Ci * Co / (2 * lanes);
  return (dense - blocks * words * (4 + 1.5 * V)) / (blocks * Ci * std::max(3.0, 0.55 * V));
}

// For one row of output pixels, one word of channels and one tap: add to each pixel's sums the rows
// of weights whose bits are set. `stride`: words from one pixel's bits to the next's.
template <typename vector, int VECTORS>
void add_fired(vector* sums, const uint64_t* bits, int64_t stride, int64_t pixels,
               const vector* weights) {
  for (int64_t j = 0; j < pixels; ++j, sums += VECTORS, bits += stride) {
    uint64_t fired = *bits;
    if (!fired) continue;
    vector sum[VECTORS];
    for (int v = 0; v < VECTORS; ++v) sum[v] = sums[v];
    for (; fired; fired &= fired - 1) {
      const vector* row = weights + __builtin_ctzll(fired) * VECTORS;
      for (int v = 0; v < VECTORS; ++v) sum[v] += row[v];
    }
    for (int v = 0; v < VECTORS; ++v) sums[v] = sum[v];
  }
}

template <typename scalar, int VECTORS>
void convolve(const uint64_t* bits, const at::Tensor& arranged, const scalar* bias, scalar* out,
              const Geometry& g) {
  using vector = typename Vector<scalar>::type;
  constexpr int64_t width = VECTORS * Vector<scalar>::lanes;
  const auto* weights = reinterpret_cast<const vector*>(arranged.const_data_ptr<scalar>());
  const int64_t height = g.out_height(), pixels = g.out_width(), lines = g.N * height;
  const int64_t threads = at::get_num_threads();
  // Rows of output pixels in a tile: what the cache holds, or less to give every thread a tile.
  const int64_t row_bytes = pixels * VECTORS * VECTOR_BYTES;
  const int64_t share = (lines + threads - 1) / threads;
  const int64_t tile = std::max<int64_t>(1, std::min(share, TILE_BYTES / row_bytes));
  const int64_t tiles = (lines + tile - 1) / tile;

  at::parallel_for(0, tiles, 1, [&](int64_t begin, int64_t end) {
    const auto memory = at::empty({tile * pixels * width}, arranged.options());
    auto* values = memory.template mutable_data_ptr<scalar>();
    auto* sums = reinterpret_cast<vector*>(values);
    for (int64_t first = begin * tile; first < std::min(lines, end * tile); first += tile) {
      const int64_t last = std::min(lines, first + tile);
      const vector* block_weights = weights;
      for (int64_t channel = 0; channel < g.Co; channel += width) {
        const int64_t columns = std::min(width, g.Co - channel);
        std::fill_n(values, (last - first) * pixels * width, scalar(0));
        if (bias)
          for (int64_t q = 0; q < (last - first) * pixels; ++q)
            std::copy_n(bias + channel, columns, values + q * width);
        for (int64_t word = 0; word < g.words(); ++word)
          for (int64_t tap = 0; tap < g.taps(); ++tap, block_weights += WORD * VECTORS)
            for (int64_t line = first; line < last; ++line) {
              const int64_t i = line % height * g.stride_height + tap / g.kernel_width;
              const auto* row = bits + g.row(line / height, word, i) + tap % g.kernel_width;
              add_fired<vector, VECTORS>(sums + (line - first) * pixels * VECTORS, row,
                                         g.stride_width, pixels, block_weights);
            }
        for (int64_t q = 0; q < (last - first) * pixels; ++q)
          std::copy_n(values + q * width, columns, out + (first * pixels + q) * g.Co + channel);
      }
    }
  });
}

inline at::Tensor spike_convolution(const at::Tensor& spikes, const at::Tensor& weight,
                                    const std::optional<at::Tensor>& bias, at::IntArrayRef stride,
                                    at::IntArrayRef padding, std::optional<double> most,
                                    const std::optional<at::Tensor>& arranged) {
  TORCH_CHECK(spikes.scalar_type() == at::kByte, "spikes must be bytes, got ", spikes.dtype());
  TORCH_CHECK(spikes.dim() == 4 && weight.dim() == 4 && spikes.size(1) == weight.size(1),
              "spikes ", spikes.sizes(), " do not fit a weight ", weight.sizes());
  TORCH_CHECK(stride.size() == 2 && stride[0] > 0 && stride[1] > 0, "stride ", stride,
              ": expected two numbers above 0");
  TORCH_CHECK(padding.size() == 2 && padding[0] >= 0 && padding[1] >= 0, "padding ", padding,
              ": expected two numbers from 0");
  TORCH_CHECK(!bias || (bias->dim() == 1 && bias->size(0) == weight.size(0)),
              "the bias does not fit a weight ", weight.sizes());
  const Geometry g{spikes.size(0),  spikes.size(1), spikes.size(2), spikes.size(3),
                   weight.size(0),  weight.size(2), weight.size(3), stride[0],
                   stride[1],       padding[0],     padding[1]};
  TORCH_CHECK(g.padded_height() >= g.kernel_height && g.padded_width() >= g.kernel_width,
              "maps ", spikes.sizes(), " are smaller than the kernel ", weight.sizes());
  const auto pixels = spikes.contiguous(at::MemoryFormat::ChannelsLast);
  const auto dense = [&] {
    return at::conv2d(pixels.to(weight.scalar_type()), weight, bias, stride, padding)
        .contiguous(at::MemoryFormat::ChannelsLast);
  };
  const double share = most.value_or(rate_that_pays(weight));
  if (share <= 0) return dense();
  const auto packed = pack_spikes(pixels, g);
  if (!packed.are_spikes || packed.fired > share * spikes.numel()) return dense();
  auto out = at::empty({g.N, g.Co, g.out_height(), g.out_width()}, weight.options(),
                       at::MemoryFormat::ChannelsLast);
  const auto rows = arranged ? *arranged : arrange_weight(weight);
  const auto offset = bias ? bias->to(weight.scalar_type()).contiguous() : at::Tensor();
  AT_DISPATCH_FLOATING_TYPES(weight.scalar_type(), "spike_convolution", [&] {
    const auto* b = bias ? offset.const_data_ptr<scalar_t>() : nullptr;
    auto* o = out.mutable_data_ptr<scalar_t>();
    const auto vectors = vectors_for(g.Co, Vector<scalar_t>::lanes);
    const auto run = vectors == 1   ? convolve<scalar_t, 1>
                     : vectors == 2 ? convolve<scalar_t, 2>
                     : vectors == 4 ? convolve<scalar_t, 4>
                                    : convolve<scalar_t, 8>;
    TORCH_CHECK(rows.scalar_type() == weight.scalar_type() && rows.is_contiguous() &&
                    rows.sizes() == arranged_sizes<scalar_t>(weight),
                "arranged weights ", rows.sizes(), " are not those of a weight ", weight.sizes());
    run(packed.bits(), rows, b, o, g);
  });
  return out;
}

}  // namespace spiking
