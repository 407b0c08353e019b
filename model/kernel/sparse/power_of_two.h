// 2^-a of registers of numbers a >= 0, in fp32 and fp64 to about one unit in the last place; beyond
// `largest` it is that of `largest`.
//
//   a = n - r, n whole, |r| <= 1/2;   2^-a = 2^-n 2^r
//
// 2^r = exp(r ln 2) is its Taylor polynomial, of the degree whose rest is below half a unit. Adding
// 1.5 2^M, M the bits of the mantissa, rounds to n and leaves it in the low bits.

#pragma once

#include <array>
#include <cstdint>

#include "vector.h"

namespace spiking {

constexpr double LN_2 = 0.69314718055994530942;

template <typename scalar>
struct Format;

template <>
struct Format<float> {
  using bits = uint32_t;
  static constexpr int mantissa = 23, bias = 127, degree = 7;
  static constexpr float shifter = 0x1.8p23f, largest = 120;  // 2^-largest has all its bits
};

template <>
struct Format<double> {
  using bits = uint64_t;
  static constexpr int mantissa = 52, bias = 1023, degree = 13;
  static constexpr double shifter = 0x1.8p52, largest = 1000;
};

// ln(2)^k / k!
template <typename scalar>
constexpr auto taylor_coefficients() {
  std::array<scalar, Format<scalar>::degree + 1> found{};
  double term = 1;
  for (size_t k = 0; k < found.size(); ++k) {
    found[k] = scalar(term);
    term *= LN_2 / double(k + 1);
  }
  return found;
}

// In place, of some registers: each operation on all of them before the next, since it has to wait
// for the one before.
template <typename scalar, int64_t lanes, int64_t vectors>
inline void power_of_two_of_minus(typename Vector<scalar, lanes>::type (&a)[vectors]) {
  using format = Format<scalar>;
  using type = typename Vector<scalar, lanes>::type;
  using bits = typename Vector<typename format::bits, lanes>::type;
  constexpr auto coefficients = taylor_coefficients<scalar>();
  const type largest = type{} + format::largest;
  const bits one = bits{} + (typename format::bits(format::bias) << format::mantissa);
  type shifted[vectors], sum[vectors];
  for (int64_t k = 0; k < vectors; ++k) {
    a[k] = a[k] > largest ? largest : a[k];  // NaN stays NaN
    shifted[k] = a[k] + format::shifter;
    a[k] = (shifted[k] - format::shifter) - a[k];  // r
    sum[k] = type{} + coefficients[format::degree];
  }
  for (int i = format::degree - 1; i >= 0; --i)
    for (int64_t k = 0; k < vectors; ++k) sum[k] = sum[k] * a[k] + coefficients[i];
  for (int64_t k = 0; k < vectors; ++k)
    a[k] = sum[k] * type(one - (bits(shifted[k]) << format::mantissa));
}

}  // namespace spiking
