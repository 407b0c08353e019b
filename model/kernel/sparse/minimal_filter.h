// Minimal filtering F(4x4, 3x3) by Toom and Cook, named after Winograd: a tile of 4x4 outputs of a
// 3x3 convolution takes 36 products of numbers in place of 144,
//
//   y = A' [(G w G') . (B' x B)] A            x: 6x6 inputs, w: 3x3 weights, .: by elements
//
// In one dimension A and G evaluate polynomials at six points, G up to a factor; their coefficients
// are gradients and weights. Transposed, as many products give the gradients, with g = dL/dy:
//
//   dL/dx = B [(G w G') . (A g A')] B'        dL/dw = G' [(B' x B) . (A g A')] G
//
// Source: Lavin and Gray, arXiv 1509.09308; gradients by transposing. Their points are 0, 1, -1, 2,
// -2 and infinity; with those below the error in fp32 is half as large (docs/performance.md).

#pragma once

#include <type_traits>

#include "vector.h"

namespace spiking {

constexpr int TILE = 4;
constexpr int POINTS = TILE + 2;                                  // the last is infinity
constexpr double FINITE[POINTS - 1] = {0, .75, -.75, 1.5, -1.5};  // p and -p side by side

// One row for each point.
template <int columns>
struct Matrix {
  static constexpr int width = columns;
  double at[POINTS][columns]{};
};

// Powers of the points, 1, p, p^2, ..., and at infinity the leading coefficient.
template <int columns>
constexpr Matrix<columns> powers() {
  Matrix<columns> matrix;
  for (int i = 0; i < POINTS - 1; ++i) {
    double power = 1;
    for (int j = 0; j < columns; ++j, power *= FINITE[i]) matrix.at[i][j] = power;
  }
  matrix.at[POINTS - 1][columns - 1] = 1;
  return matrix;
}

// Powers, divided by the product of a point's distances to the others.
constexpr Matrix<3> weight_matrix() {
  Matrix<3> matrix = powers<3>();
  for (int i = 0; i < POINTS - 1; ++i) {
    double distances = 1;
    for (int other = 0; other < POINTS - 1; ++other)
      if (other != i) distances *= FINITE[i] - FINITE[other];
    for (double& value : matrix.at[i]) value /= distances;
  }
  return matrix;
}

// Coefficients, the constant first, of the product of (z - q) over all other finite points q.
constexpr Matrix<POINTS> input_matrix() {
  Matrix<POINTS> matrix;
  for (int i = 0; i < POINTS; ++i) {
    double* coefficients = matrix.at[i];
    coefficients[0] = 1;
    for (int q = 0; q < POINTS - 1; ++q) {
      if (q == i) continue;
      for (int j = POINTS - 1; j > 0; --j)
        coefficients[j] = coefficients[j - 1] - FINITE[q] * coefficients[j];
      coefficients[0] *= -FINITE[q];
    }
  }
  return matrix;
}

inline constexpr Matrix<TILE> A = powers<TILE>();
inline constexpr Matrix<3> G = weight_matrix();
inline constexpr Matrix<POINTS> B_T = input_matrix();

// The sum of coefficients[j] * line[j] over j = first, first + step, ...; zeros cost nothing.
template <int width, typename vector>
inline vector weighted(const double (&coefficients)[width], const vector (&line)[width], int first,
                       int step) {
  using scalar = std::decay_t<decltype(line[0][0])>;
  vector sum{};
  bool is_empty = true;
  UNROLLED for (int j = first; j < width; j += step) {
    if (coefficients[j] == 0) continue;
    const vector term = coefficients[j] == 1 ? line[j] : line[j] * scalar(coefficients[j]);
    sum = is_empty ? term : sum + term;
    is_empty = false;
  }
  return sum;
}

// M line. The rows of p and -p have equal even columns and opposite odd ones.
template <const auto& M, typename vector>
inline void to_points(const vector (&line)[M.width], vector (&points)[POINTS]) {
  points[0] = weighted(M.at[0], line, 0, 1);
  points[POINTS - 1] = weighted(M.at[POINTS - 1], line, 0, 1);
  UNROLLED for (int i = 1; i < POINTS - 1; i += 2) {
    const vector even = weighted(M.at[i], line, 0, 2), odd = weighted(M.at[i], line, 1, 2);
    points[i] = even + odd;
    points[i + 1] = even - odd;
  }
}

// M' points.
template <const auto& M, typename vector>
inline void from_points(const vector (&points)[POINTS], vector (&line)[M.width]) {
  UNROLLED for (int j = 0; j < M.width; ++j) {
    const double column[] = {M.at[0][j], M.at[1][j], M.at[3][j], M.at[5][j]};
    const vector first = j % 2 ? points[1] - points[2] : points[1] + points[2];
    const vector second = j % 2 ? points[3] - points[4] : points[3] + points[4];
    const vector terms[] = {points[0], first, second, points[5]};
    line[j] = weighted(column, terms, 0, 1);
  }
}

// M tile M'.
template <const auto& M, typename vector>
inline void tile_to_points(const vector (&tile)[M.width][M.width],
                           vector (&points)[POINTS][POINTS]) {
  vector half[POINTS][M.width];
  UNROLLED for (int j = 0; j < M.width; ++j) {
    vector line[M.width], values[POINTS];
    UNROLLED for (int i = 0; i < M.width; ++i) line[i] = tile[i][j];
    to_points<M>(line, values);
    UNROLLED for (int i = 0; i < POINTS; ++i) half[i][j] = values[i];
  }
  UNROLLED for (int i = 0; i < POINTS; ++i) to_points<M>(half[i], points[i]);
}

// M' points M.
template <const auto& M, typename vector>
inline void tile_from_points(const vector (&points)[POINTS][POINTS],
                             vector (&tile)[M.width][M.width]) {
  vector half[M.width][POINTS];
  UNROLLED for (int j = 0; j < POINTS; ++j) {
    vector line[M.width], values[POINTS];
    UNROLLED for (int i = 0; i < POINTS; ++i) values[i] = points[i][j];
    from_points<M>(values, line);
    UNROLLED for (int i = 0; i < M.width; ++i) half[i][j] = line[i];
  }
  UNROLLED for (int i = 0; i < M.width; ++i) from_points<M>(half[i], tile[i]);
}

}  // namespace spiking
