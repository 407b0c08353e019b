// A register of values, such as neighbouring channels or neurons.

#pragma once

#include <cstdint>
#ifdef __AVX2__
#include <immintrin.h>
#endif

// Before a loop over values that are to stay in registers.
#define UNROLLED _Pragma("GCC unroll 8")

namespace spiking {

// GCC keeps vectors that are wider than a register in memory.
#if defined(__AVX512F__)
constexpr int64_t VECTOR_BYTES = 64;
#elif defined(__AVX2__)
constexpr int64_t VECTOR_BYTES = 32;
#else
constexpr int64_t VECTOR_BYTES = 16;
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
  // factor * values + sum, rounded once where the processor can.
  static type fused(scalar factor, type values, type sum) {
#if defined(__AVX512F__)
    if constexpr (sizeof(scalar) == 4)
      return (type)_mm512_fmadd_ps(_mm512_set1_ps(factor), (__m512)values, (__m512)sum);
    else
      return (type)_mm512_fmadd_pd(_mm512_set1_pd(factor), (__m512d)values, (__m512d)sum);
#elif defined(__AVX2__)
    if constexpr (sizeof(scalar) == 4)
      return (type)_mm256_fmadd_ps(_mm256_set1_ps(factor), (__m256)values, (__m256)sum);
    else
      return (type)_mm256_fmadd_pd(_mm256_set1_pd(factor), (__m256d)values, (__m256d)sum);
#else
    return sum + factor * values;
#endif
  }

 private:
  template <typename other>
  using like = typename Vector<other, lanes>::type;
  typedef scalar anywhere
      __attribute__((vector_size(lanes * sizeof(scalar)), aligned(alignof(scalar))));
  typedef uint8_t bytes __attribute__((vector_size(lanes), aligned(1)));
};

}  // namespace spiking
