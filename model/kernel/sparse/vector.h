// A register of values, such as neighbouring channels.

#pragma once

#include <cstdint>

namespace spiking {

// GCC keeps vectors that are wider than a register in memory.
#ifdef __AVX512F__
constexpr int64_t VECTOR_BYTES = 64;
#else
constexpr int64_t VECTOR_BYTES = 32;
#endif

template <typename scalar>
struct Vector {
  static constexpr int64_t lanes = VECTOR_BYTES / sizeof(scalar);
  typedef scalar type __attribute__((vector_size(VECTOR_BYTES)));

  static type load(const scalar* from) { return *reinterpret_cast<const anywhere*>(from); }
  static type load(const uint8_t* from) {
    return __builtin_convertvector(*reinterpret_cast<const bytes*>(from), type);
  }
  static void store(scalar* to, type values) { *reinterpret_cast<anywhere*>(to) = values; }

 private:
  typedef scalar anywhere __attribute__((vector_size(VECTOR_BYTES), aligned(alignof(scalar))));
  typedef uint8_t bytes __attribute__((vector_size(lanes), aligned(1)));
};

}  // namespace spiking
