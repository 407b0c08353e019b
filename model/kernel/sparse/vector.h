// A register of values, such as neighbouring channels or neurons.

#pragma once

#include <cstdint>

namespace spiking {

// GCC keeps vectors that are wider than a register in memory.
#ifdef __AVX512F__
constexpr int64_t VECTOR_BYTES = 64;
#else
constexpr int64_t VECTOR_BYTES = 32;
#endif

template <typename scalar, int64_t count = VECTOR_BYTES / sizeof(scalar)>
struct Vector {
  static constexpr int64_t lanes = count;
  typedef scalar type __attribute__((vector_size(lanes * sizeof(scalar))));

  static type load(const scalar* from) { return *reinterpret_cast<const anywhere*>(from); }
  // Bytes become numbers, and whole numbers up to 255 bytes, in three steps: for each of them there
  // is an instruction.
  static type load(const uint8_t* from) {
    const bytes values = *reinterpret_cast<const bytes*>(from);
    const auto halves = __builtin_convertvector(values, like<int16_t>);
    const auto words = __builtin_convertvector(halves, like<int32_t>);
    return __builtin_convertvector(words, type);
  }
  static void store(scalar* to, type values) { *reinterpret_cast<anywhere*>(to) = values; }
  static void store(uint8_t* to, type values) {
    const auto words = __builtin_convertvector(values, like<int32_t>);
    const auto halves = __builtin_convertvector(words, like<int16_t>);
    *reinterpret_cast<bytes*>(to) = __builtin_convertvector(halves, bytes);
  }

 private:
  template <typename other>
  using like = typename Vector<other, lanes>::type;
  typedef scalar anywhere
      __attribute__((vector_size(lanes * sizeof(scalar)), aligned(alignof(scalar))));
  typedef uint8_t bytes __attribute__((vector_size(lanes), aligned(1)));
};

}  // namespace spiking
