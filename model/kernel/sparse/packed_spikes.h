// Spikes as bits: 64 input channels in a word, so that those which fire are found without a look at
// the others.

#pragma once

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>

namespace spiking {

constexpr int64_t WORD = 64;  // channels in a word of bits

// Of a convolution: N maps, Ci input and Co output channels, taps = kernel height * kernel width.
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

// Spikes as bits, with what was seen on the way: how many fire, and whether all are 0 or 1.
struct Packed {
  at::Tensor words;  // (N, words, padded height, padded width), 0 in the padding
  int64_t fired;
  bool are_spikes;

  const uint64_t* bits() const {
    return reinterpret_cast<const uint64_t*>(words.const_data_ptr<int64_t>());
  }
};

// Bytes -> bits, the first byte lowest; at most WORD of them. `others`: bits of any but the lowest.
inline uint64_t pack(const uint8_t* bytes, int64_t count, uint64_t& others) {
  uint64_t word = 0;
  int64_t i = 0;
  for (; i + 8 <= count; i += 8) {
    uint64_t eight;
    std::memcpy(&eight, bytes + i, 8);
    others |= eight & ~0x0101010101010101ull;
    word |= (eight * 0x0102040810204080ull >> 56) << i;  // bit 0 of each byte, side by side
  }
  for (; i < count; ++i) {
    others |= bytes[i] & ~1ull;
    word |= uint64_t(bytes[i] & 1) << i;
  }
  return word;
}

// spikes: (N, height, width, Ci), bytes.
inline Packed pack_spikes(const at::Tensor& spikes, const Geometry& g) {
  const auto options = spikes.options().dtype(at::kLong);
  auto packed = at::zeros({g.N, g.words(), g.padded_height(), g.padded_width()}, options);
  auto* bits = reinterpret_cast<uint64_t*>(packed.mutable_data_ptr<int64_t>());
  const auto* bytes = spikes.const_data_ptr<uint8_t>();
  std::atomic<int64_t> all_fired{0};
  std::atomic<uint64_t> all_others{0};
  at::parallel_for(0, g.N * g.height, 0, [&](int64_t begin, int64_t end) {
    int64_t fired = 0;
    uint64_t others = 0;
    for (int64_t line = begin; line < end; ++line) {
      const int64_t n = line / g.height, i = line % g.height + g.padding_height;
      for (int64_t word = 0; word < g.words(); ++word) {
        const uint8_t* pixel = bytes + line * g.width * g.Ci + word * WORD;
        const int64_t count = std::min(WORD, g.Ci - word * WORD);
        uint64_t* out = bits + g.row(n, word, i) + g.padding_width;
        for (int64_t j = 0; j < g.width; ++j, pixel += g.Ci) {
          out[j] = pack(pixel, count, others);
          fired += __builtin_popcountll(out[j]);
        }
      }
    }
    all_fired += fired;
    all_others |= others;
  });
  return {packed, all_fired, all_others == 0};
}

}  // namespace spiking
