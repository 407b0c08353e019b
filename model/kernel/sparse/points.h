// A matrix for each point of minimal filtering, and the products of two such matrices.
//
// A matrix (rows, channels) lies in memory as panels of as many channels as a register holds, rows
// one below the other. So a product reads and writes memory in order, and what makes points may
// write each of them where it belongs: panels, and matrices, follow each other at an odd number of
// the cache's lines, so that a row's 36 points do not push each other out.

#pragma once

#include <ATen/Parallel.h>

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "minimal_filter.h"
#include "vector.h"

namespace spiking {

constexpr int64_t ALL_POINTS = POINTS * POINTS;
constexpr int64_t LINE_BYTES = 64;  // of the cache

template <typename scalar>
struct Points {
  static constexpr int64_t lanes = Vector<scalar>::lanes;
  scalar* values;
  int64_t rows, channels;

  // From a panel to the next: more than its rows take.
  int64_t panel() const { return odd_lines(rows * lanes); }
  // From a point's matrix to the next one's.
  int64_t point() const { return odd_lines(channels / lanes * panel()); }
  Points from(int64_t channel) const { return {at(0, channel), rows, channels}; }
  scalar* at(int64_t row, int64_t channel) const {
    return values + channel / lanes * panel() + row * lanes;
  }

  using vector = typename Vector<scalar>::type;
  // All points of a row, of `lanes` channels from the given one on.
  void put(int64_t row, int64_t channel, const vector (&points)[POINTS][POINTS]) const {
    scalar* place = at(row, channel);
    UNROLLED for (int i = 0; i < POINTS; ++i)
      UNROLLED for (int j = 0; j < POINTS; ++j, place += point())
        Vector<scalar>::store(place, points[i][j]);
  }
  void take(int64_t row, int64_t channel, vector (&points)[POINTS][POINTS]) const {
    const scalar* place = at(row, channel);
    UNROLLED for (int i = 0; i < POINTS; ++i)
      UNROLLED for (int j = 0; j < POINTS; ++j, place += point())
        points[i][j] = Vector<scalar>::load(place);
  }

 private:
  // More values than these, that fill an odd number of lines.
  static int64_t odd_lines(int64_t count) {
    constexpr int64_t line = LINE_BYTES / sizeof(scalar);
    return ((count / line + 1) | 1) * line;
  }
};

constexpr int64_t TERMS = 128;  // that are summed up at a time: fewer round less

// Rows that are summed up at a time, of two panels: as many as registers hold, and no more than the
// channels of a panel, from which `multiply_columns` takes them.
template <typename scalar>
constexpr int64_t SUMMED = std::min<int64_t>(VECTOR_BYTES < 64 ? 4 : 8, Vector<scalar>::lanes);

// How a product reads its left factor: the number for a row r and a term k is at
// values[r * row + k / run * far + k % run * near]. There is a multiple of `run` terms.
template <typename scalar>
struct Left {
  const scalar* values;
  int64_t row, run, near, far;
};

// out[r][v] = sum over k of left(r, k) right[v][k], for ROWS rows of PANELS panels; or += it.
template <int ROWS, int PANELS, typename scalar>
void multiply_block(const Left<scalar>& left, int64_t terms, const scalar* right,
                    int64_t right_panel, scalar* out, int64_t out_panel, bool add) {
  using Values = Vector<scalar>;
  typename Values::type sums[ROWS][PANELS];
  for (int r = 0; r < ROWS; ++r)
    for (int v = 0; v < PANELS; ++v) sums[r][v] = typename Values::type{};
  for (int64_t first = 0; first < terms; first += left.run) {
    const scalar* factors = left.values + first / left.run * left.far;
    for (int64_t k = 0; k < left.run; ++k, factors += left.near, right += Values::lanes) {
      typename Values::type values[PANELS];
      for (int v = 0; v < PANELS; ++v) values[v] = Values::load(right + v * right_panel);
      for (int r = 0; r < ROWS; ++r)
        for (int v = 0; v < PANELS; ++v)
          sums[r][v] = Values::fused(factors[r * left.row], values[v], sums[r][v]);
    }
  }
  for (int r = 0; r < ROWS; ++r)
    for (int v = 0; v < PANELS; ++v) {
      scalar* place = out + v * out_panel + r * Values::lanes;
      Values::store(place, add ? Values::load(place) + sums[r][v] : sums[r][v]);
    }
}

// For each point a product of matrices, by blocks of the result's rows and panels: the sum of so many
// terms from the first on; or the result += it.
//   left_of(row): how the left factor is read from this row of the result on, for the first point
template <typename scalar, typename LeftOf>
void multiply(const Points<scalar>& out, const Points<scalar>& left, const Points<scalar>& right,
              int64_t first_term, int64_t terms, bool add, const LeftOf& left_of) {
  constexpr int64_t lanes = Points<scalar>::lanes, size = SUMMED<scalar>;
  const int64_t blocks = (out.rows + size - 1) / size;
  const auto rows = [&](auto count, int64_t point, int64_t row) {
    Left<scalar> factors = left_of(row);
    factors.values += point * left.point();
    const scalar* values = right.at(first_term, 0) + point * right.point();
    scalar* sums = out.at(row, 0) + point * out.point();
    for (int64_t c = 0; c < out.channels; c += 2 * lanes) {
      const bool both = c + lanes < out.channels;
      const auto run = both ? multiply_block<count, 2, scalar> : multiply_block<count, 1, scalar>;
      run(factors, terms, values, right.panel(), sums, out.panel(), add);
      values += 2 * right.panel(), sums += 2 * out.panel();
    }
  };
  at::parallel_for(0, ALL_POINTS * blocks, 8, [&](int64_t begin, int64_t end) {
    for (int64_t block = begin; block < end; ++block) {
      const int64_t point = block / blocks, first = block % blocks * size;
      if (first + size <= out.rows)
        rows(std::integral_constant<int, size>(), point, first);
      else
        for (int64_t row = first; row < out.rows; ++row)
          rows(std::integral_constant<int, 1>(), point, row);
    }
  });
}

// out (rows, channels) = left (rows, terms) right (terms, channels), or += it; no more than TERMS.
template <typename scalar>
void multiply_rows(const Points<scalar>& out, const Points<scalar>& left,
                   const Points<scalar>& right, bool add) {
  constexpr int64_t lanes = Points<scalar>::lanes;
  multiply(out, left, right, 0, right.rows, add, [&](int64_t row) {
    return Left<scalar>{left.at(row, 0), lanes, lanes, 1, left.panel()};
  });
}

// out (rows, channels) = left (terms, rows)' right (terms, channels)
template <typename scalar>
void multiply_columns(const Points<scalar>& out, const Points<scalar>& left,
                      const Points<scalar>& right) {
  constexpr int64_t lanes = Points<scalar>::lanes;
  for (int64_t first = 0; first < right.rows; first += TERMS) {
    const int64_t terms = std::min(TERMS, right.rows - first);
    multiply(out, left, right, first, terms, first > 0, [&](int64_t row) {
      return Left<scalar>{left.at(first, row) + row % lanes, 1, terms, lanes, 0};
    });
  }
}

}  // namespace spiking
