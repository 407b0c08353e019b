// A convolution of spikes that adds the weights of the inputs that fire and skips those that do not.
//
//   out[n, o, i, j] = bias[o] + sum of weight[o, c, a, b] over all c, a, b for which
//                     spikes[n, c, i * stride + a - padding, j * stride + b - padding] is 1
//
// Spikes are packed into words of 64 channels, one bit each. For every word that an output pixel
// reads, the rows of weights (one value for each of `width` output channels) whose bits are set are
// added to sums that stay in registers. 64 rows of weights at a time stay in the first-level cache
// while a tile of output pixels goes by, whose sums stay in the second-level cache.
//
// Bytes other than 0 and 1 are not checked for: they would set bits of other channels.
//
// Names: N maps, Ci input and Co output channels, taps = kernel height * kernel width, words of 64
// input channels, blocks of `width` output channels.

#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <optional>

namespace {

constexpr int64_t WORD = 64;                // channels in a word of bits
constexpr int64_t VECTOR_BYTES = 64;        // of one vector of output channels
constexpr int64_t TILE_BYTES = 128 * 1024;  // of the sums that are open at a time

template <typename scalar>
struct Vector {
  typedef scalar type __attribute__((vector_size(VECTOR_BYTES)));
  static constexpr int64_t lanes = VECTOR_BYTES / sizeof(scalar);
};

struct Geometry {
  int64_t N, Ci, height, width;
  int64_t Co, kernel_height, kernel_width;
  int64_t stride_height, stride_width, padding_height, padding_width;

  int64_t taps() const { return kernel_height * kernel_width; }
  int64_t words() const { return (Ci + WORD - 1) / WORD; }
  int64_t padded_height() const { return height + 2 * padding_height; }
  int64_t padded_width() const { return width + 2 * padding_width; }
  int64_t out_height() const { return (padded_height() - kernel_height) / stride_height + 1; }
  int64_t out_width() const { return (padded_width() - kernel_width) / stride_width + 1; }
  // Index of the first word of a padded row in (N, words, padded height, padded width).
  int64_t row(int64_t n, int64_t word, int64_t i) const {
    return ((n * words() + word) * padded_height() + i) * padded_width();
  }
};

// Bytes that are 0 or 1 -> bits, the first byte lowest; at most WORD of them.
uint64_t pack(const uint8_t* bytes, int64_t count) {
  uint64_t word = 0;
  int64_t i = 0;
  for (; i + 8 <= count; i += 8) {
    uint64_t eight;
    std::memcpy(&eight, bytes + i, 8);
    word |= (eight * 0x0102040810204080ull >> 56) << i;  // bit 0 of each byte, side by side
  }
  for (; i < count; ++i) word |= uint64_t(bytes[i]) << i;
  return word;
}

// (N, height, width, Ci) bytes -> (N, words, padded height, padded width) words, 0 in the padding.
at::Tensor pack_spikes(const at::Tensor& spikes, const Geometry& g) {
  const auto options = spikes.options().dtype(at::kLong);
  auto packed = at::zeros({g.N, g.words(), g.padded_height(), g.padded_width()}, options);
  auto* bits = reinterpret_cast<uint64_t*>(packed.mutable_data_ptr<int64_t>());
  const auto* bytes = spikes.const_data_ptr<uint8_t>();
  at::parallel_for(0, g.N * g.height, 0, [&](int64_t begin, int64_t end) {
    for (int64_t line = begin; line < end; ++line) {
      const int64_t n = line / g.height, i = line % g.height + g.padding_height;
      for (int64_t word = 0; word < g.words(); ++word) {
        const uint8_t* pixel = bytes + line * g.width * g.Ci + word * WORD;
        const int64_t count = std::min(WORD, g.Ci - word * WORD);
        uint64_t* out = bits + g.row(n, word, i) + g.padding_width;
        for (int64_t j = 0; j < g.width; ++j, pixel += g.Ci) out[j] = pack(pixel, count);
      }
    }
  });
  return packed;
}

// (Co, Ci, kernel height, kernel width) -> (blocks, words, taps, WORD, width), 0 where there is no
// channel.
template <typename scalar>
at::Tensor arrange_weights(const at::Tensor& weight, const Geometry& g, int64_t width) {
  const int64_t blocks = (g.Co + width - 1) / width, words = g.words(), taps = g.taps();
  auto arranged = at::zeros({blocks, words, taps, WORD, width}, weight.options());
  const auto* from = weight.const_data_ptr<scalar>();
  auto* to = arranged.mutable_data_ptr<scalar>();
  const int64_t stride_o = weight.stride(0), stride_c = weight.stride(1);
  constexpr int64_t patch = 16;  // rows and columns that are transposed together
  at::parallel_for(0, blocks * words * taps, 0, [&](int64_t begin, int64_t end) {
    for (int64_t part = begin; part < end; ++part) {
      const int64_t tap = part % taps, word = part / taps % words, block = part / taps / words;
      const int64_t rows = std::min(WORD, g.Ci - word * WORD);
      const int64_t columns = std::min(width, g.Co - block * width);
      const auto* source = from + block * width * stride_o + word * WORD * stride_c +
                           tap / g.kernel_width * weight.stride(2) +
                           tap % g.kernel_width * weight.stride(3);
      auto* target = to + part * WORD * width;
      for (int64_t first_row = 0; first_row < rows; first_row += patch)
        for (int64_t first = 0; first < columns; first += patch)
          for (int64_t c = first_row; c < std::min(rows, first_row + patch); ++c)
            for (int64_t o = first; o < std::min(columns, first + patch); ++o)
              target[c * width + o] = source[o * stride_o + c * stride_c];
    }
  });
  return arranged;
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
void convolve(const uint64_t* bits, const at::Tensor& weight, const scalar* bias, scalar* out,
              const Geometry& g) {
  using vector = typename Vector<scalar>::type;
  constexpr int64_t width = VECTORS * Vector<scalar>::lanes;
  const auto arranged = arrange_weights<scalar>(weight, g, width);
  const auto* weights = reinterpret_cast<const vector*>(arranged.template const_data_ptr<scalar>());
  const int64_t height = g.out_height(), pixels = g.out_width(), lines = g.N * height;
  const int64_t threads = at::get_num_threads();
  // Rows of output pixels in a tile: what the cache holds, or less to give every thread a tile.
  const int64_t row_bytes = pixels * VECTORS * VECTOR_BYTES;
  const int64_t share = (lines + threads - 1) / threads;
  const int64_t tile = std::max<int64_t>(1, std::min(share, TILE_BYTES / row_bytes));
  const int64_t tiles = (lines + tile - 1) / tile;
  const auto memory = at::empty({threads, tile * pixels * width}, weight.options());
  auto* all_values = memory.template mutable_data_ptr<scalar>();

  at::parallel_for(0, tiles, 1, [&](int64_t begin, int64_t end) {
    auto* values = all_values + at::get_thread_num() * tile * pixels * width;
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

at::Tensor spike_convolution(const at::Tensor& spikes, const at::Tensor& weight,
                             const std::optional<at::Tensor>& bias, at::IntArrayRef stride,
                             at::IntArrayRef padding) {
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
  auto out = at::empty({g.N, g.Co, g.out_height(), g.out_width()}, weight.options(),
                       at::MemoryFormat::ChannelsLast);
  const auto packed = pack_spikes(spikes.contiguous(at::MemoryFormat::ChannelsLast), g);
  const auto* bits = reinterpret_cast<const uint64_t*>(packed.const_data_ptr<int64_t>());
  const auto offset = bias ? bias->to(weight.scalar_type()).contiguous() : at::Tensor();
  AT_DISPATCH_FLOATING_TYPES(weight.scalar_type(), "spike_convolution", [&] {
    const auto* b = bias ? offset.const_data_ptr<scalar_t>() : nullptr;
    auto* o = out.mutable_data_ptr<scalar_t>();
    const auto run = g.Co <= Vector<scalar_t>::lanes       ? convolve<scalar_t, 1>
                     : g.Co <= 2 * Vector<scalar_t>::lanes ? convolve<scalar_t, 2>
                                                           : convolve<scalar_t, 4>;
    run(bits, weight, b, o, g);
  });
  return out;
}

}  // namespace

TORCH_LIBRARY(spiking_cpu, library) {
  library.def(
      "spike_convolution(Tensor spikes, Tensor weight, Tensor? bias, int[2] stride, "
      "int[2] padding) -> Tensor");
}

TORCH_LIBRARY_IMPL(spiking_cpu, CPU, library) {
  library.impl("spike_convolution", &spike_convolution);
}
