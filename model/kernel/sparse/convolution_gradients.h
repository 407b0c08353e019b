// Gradients of a 3x3 convolution with stride 1 and padding 1 by minimal filtering
// (`minimal_filter.h`), which takes a quarter of the products where tiles are full.
//
// Tiles of the gradient dL/dy, windows of the maps x and weights become six by six points each.
// What is left is, for each of these 36, two products of matrices with a row for each tile:
//
//   dL/dx (tiles, Ci) = dL/dy (tiles, Co) w (Co, Ci)
//   dL/dw (Co, Ci)    = dL/dy (tiles, Co)' x (tiles, Ci)
//
// It works through TILES and CHANNELS at a time: fewer points to keep, and none far from the cache.
//
// Names: N maps, Ci input and Co output channels.

#pragma once

#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/bmm.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <cstdint>
#include <tuple>
#include <vector>

#include "minimal_filter.h"
#include "vector.h"

namespace spiking {

constexpr int64_t ALL_POINTS = POINTS * POINTS;
constexpr int64_t TILES = 256;    // for each thread
constexpr int64_t CHANNELS = 64;  // of the input
constexpr auto LAYOUT = at::MemoryFormat::ChannelsLast;

// Maps in memory as (N, height, width, stride), or as many of their channels, seen as tiles.
template <typename value>
struct Tiled {
  value* values;
  int64_t height, width, stride;

  int64_t rows() const { return (height + TILE - 1) / TILE; }
  int64_t columns() const { return (width + TILE - 1) / TILE; }
  int64_t tiles() const { return rows() * columns(); }

  Tiled part(int64_t map, int64_t channel) const {
    return {values + map * height * width * stride + channel, height, width, stride};
  }

  // The pixels of a tile, with a margin on each side; `outside` for those beyond the map.
  template <int side>
  void window(int64_t tile, value* outside, value* (&pixels)[side][side]) const {
    constexpr int margin = (side - TILE) / 2;
    const int64_t map = tile / tiles(), top = tile % tiles() / columns() * TILE - margin,
                  left = tile % columns() * TILE - margin;
    for (int64_t i = 0; i < side; ++i)
      for (int64_t j = 0; j < side; ++j) {
        const int64_t y = top + i, x = left + j;
        const bool inside = y >= 0 && y < height && x >= 0 && x < width;
        pixels[i][j] = inside ? values + ((map * height + y) * width + x) * stride : outside;
      }
  }
};

// Points in memory as (ALL_POINTS, rows, channels), a row for each tile or output channel. A row is
// made and read side by side, (ALL_POINTS, channels): in its places, which are often a multiple of
// 4096 bytes apart, its values would push each other out of the cache.
template <typename scalar>
struct Points {
  scalar* values;
  int64_t rows, channels;

  void put(int64_t row, const scalar* from) const {
    for (int64_t k = 0; k < ALL_POINTS; ++k)
      std::copy_n(from + k * channels, channels, values + (k * rows + row) * channels);
  }
  void take(int64_t row, scalar* to) const {
    for (int64_t k = 0; k < ALL_POINTS; ++k)
      std::copy_n(values + (k * rows + row) * channels, channels, to + k * channels);
  }
};

// M tile M' of each tile: M = A for a gradient, B' for maps, with a margin of a pixel.
template <const auto& M, typename scalar, typename value>
void maps_to_points(const Tiled<const value>& maps, const Points<scalar>& points) {
  using Values = Vector<scalar>;
  const std::vector<value> zeros(points.channels);
  at::parallel_for(0, points.rows, 16, [&](int64_t begin, int64_t end) {
    std::vector<scalar> row(ALL_POINTS * points.channels);
    for (int64_t tile = begin; tile < end; ++tile) {
      const value* pixels[M.width][M.width];
      maps.window(tile, zeros.data(), pixels);
      for (int64_t c = 0; c < points.channels; c += Values::lanes) {
        typename Values::type in[M.width][M.width], out[POINTS][POINTS];
        for (int k = 0; k < M.width * M.width; ++k)
          in[k / M.width][k % M.width] = Values::load(pixels[k / M.width][k % M.width] + c);
        tile_to_points<M>(in, out);
        for (int k = 0; k < ALL_POINTS; ++k)
          Values::store(&row[k * points.channels + c], out[k / POINTS][k % POINTS]);
      }
      points.put(tile, row.data());
    }
  });
}

// Add B points B' to each tile and its margin. Those of one map overlap: it has one thread.
template <typename scalar>
void add_windows(const Points<scalar>& points, const Tiled<scalar>& maps) {
  using Values = Vector<scalar>;
  const int64_t tiles = maps.tiles();
  at::parallel_for(0, points.rows / tiles, 1, [&](int64_t begin, int64_t end) {
    std::vector<scalar> row(ALL_POINTS * points.channels), nowhere(points.channels);
    for (int64_t tile = begin * tiles; tile < end * tiles; ++tile) {
      scalar* pixels[POINTS][POINTS];
      maps.window(tile, nowhere.data(), pixels);
      points.take(tile, row.data());
      for (int64_t c = 0; c < points.channels; c += Values::lanes) {
        typename Values::type in[POINTS][POINTS], out[POINTS][POINTS];
        for (int k = 0; k < ALL_POINTS; ++k)
          in[k / POINTS][k % POINTS] = Values::load(&row[k * points.channels + c]);
        tile_from_points<B_T>(in, out);
        for (int k = 0; k < ALL_POINTS; ++k) {
          scalar* pixel = pixels[k / POINTS][k % POINTS] + c;
          Values::store(pixel, Values::load(pixel) + out[k / POINTS][k % POINTS]);
        }
      }
    }
  });
}

// G w G' of weights, in memory as (Co, 3, 3, Ci), or of as many of their input channels.
template <typename scalar>
void weights_to_points(const scalar* weights, int64_t Ci, const Points<scalar>& points) {
  using Values = Vector<scalar>;
  at::parallel_for(0, points.rows, 4, [&](int64_t begin, int64_t end) {
    std::vector<scalar> row(ALL_POINTS * points.channels);
    for (int64_t o = begin; o < end; ++o) {
      for (int64_t c = 0; c < points.channels; c += Values::lanes) {
        typename Values::type in[3][3], out[POINTS][POINTS];
        for (int k = 0; k < 9; ++k)
          in[k / 3][k % 3] = Values::load(weights + (o * 9 + k) * Ci + c);
        tile_to_points<G>(in, out);
        for (int k = 0; k < ALL_POINTS; ++k)
          Values::store(&row[k * points.channels + c], out[k / POINTS][k % POINTS]);
      }
      points.put(o, row.data());
    }
  });
}

// G' points G, the gradient of such weights; added to what is there, or in its place.
template <typename scalar>
void weights_from_points(const Points<scalar>& points, scalar* weights, int64_t Ci, bool add) {
  using Values = Vector<scalar>;
  at::parallel_for(0, points.rows, 4, [&](int64_t begin, int64_t end) {
    std::vector<scalar> row(ALL_POINTS * points.channels);
    for (int64_t o = begin; o < end; ++o) {
      points.take(o, row.data());
      for (int64_t c = 0; c < points.channels; c += Values::lanes) {
        typename Values::type in[POINTS][POINTS], out[3][3];
        for (int k = 0; k < ALL_POINTS; ++k)
          in[k / POINTS][k % POINTS] = Values::load(&row[k * points.channels + c]);
        tile_from_points<G>(in, out);
        for (int k = 0; k < 9; ++k) {
          scalar* weight = weights + (o * 9 + k) * Ci + c;
          Values::store(weight, add ? Values::load(weight) + out[k / 3][k % 3] : out[k / 3][k % 3]);
        }
      }
    }
  });
}

// Memory for (ALL_POINTS, rows, channels) up to a size, seen as one of the sizes that are needed.
struct Memory {
  at::Tensor values;

  Memory(int64_t most, const at::Tensor& like)
      : values(at::empty({ALL_POINTS * most}, like.options())) {}
  at::Tensor of(int64_t rows, int64_t channels) const {
    return values.narrow(0, 0, ALL_POINTS * rows * channels).view({ALL_POINTS, rows, channels});
  }
};

template <typename scalar>
Points<scalar> points_of(const at::Tensor& points) {
  return {points.mutable_data_ptr<scalar>(), points.size(1), points.size(2)};
}

template <typename scalar, typename value>
void differentiate(const at::Tensor& gradient, const at::Tensor& maps, const at::Tensor& weight,
                   const at::Tensor& of_maps, const at::Tensor& of_weight) {
  const int64_t N = maps.size(0), Ci = maps.size(1), height = maps.size(2), width = maps.size(3);
  const int64_t Co = weight.size(0), channels = std::min(CHANNELS, Ci);
  const Tiled<const scalar> g{gradient.const_data_ptr<scalar>(), height, width, Co};
  const Tiled<const value> x{maps.const_data_ptr<value>(), height, width, Ci};
  const Tiled<scalar> g_x{of_maps.mutable_data_ptr<scalar>(), height, width, Ci};
  const auto* w = weight.const_data_ptr<scalar>();
  auto* g_w = of_weight.mutable_data_ptr<scalar>();
  // Parts of equally many maps: at most TILES for each thread, but a map for each.
  const int64_t threads = at::get_num_threads();
  const int64_t fitting = std::max(threads, TILES * threads / g.tiles());
  const int64_t parts = (N + fitting - 1) / fitting, most = (N + parts - 1) / parts;
  const Memory gradient_memory(most * g.tiles() * Co, weight);
  const Memory map_memory(most * g.tiles() * channels, weight);
  const Memory weight_memory(Co * channels, weight);

  for (int64_t first = 0; first < N; first += most) {
    const int64_t rows = std::min(most, N - first) * g.tiles();
    const auto of_gradient = gradient_memory.of(rows, Co);
    maps_to_points<A>(g.part(first, 0), points_of<scalar>(of_gradient));
    for (int64_t channel = 0; channel < Ci; channel += channels) {
      const int64_t count = std::min(channels, Ci - channel);
      auto map_points = map_memory.of(rows, count), weight_points = weight_memory.of(Co, count);
      weights_to_points(w + channel, Ci, points_of<scalar>(weight_points));
      at::bmm_out(map_points, of_gradient, weight_points);
      add_windows(points_of<scalar>(map_points), g_x.part(first, channel));
      maps_to_points<B_T>(x.part(first, channel), points_of<scalar>(map_points));
      at::bmm_out(weight_points, of_gradient.transpose(1, 2), map_points);
      weights_from_points(points_of<scalar>(weight_points), g_w + channel, Ci, first > 0);
    }
  }
}

// gradient: dL/dy (N, Co, height, width), of weight's type; maps (N, Ci, height, width), of that or
// bytes, such as counts of spikes; weight (Co, Ci, 3, 3).
// -> dL/dx and dL/dw, channels_last.
inline std::tuple<at::Tensor, at::Tensor> convolution_gradients(const at::Tensor& gradient,
                                                                const at::Tensor& maps,
                                                                const at::Tensor& weight) {
  TORCH_CHECK(maps.dim() == 4 && weight.dim() == 4 && weight.size(1) == maps.size(1) &&
                  weight.size(2) == 3 && weight.size(3) == 3,
              "a weight ", weight.sizes(), " is none of a 3x3 convolution of maps ", maps.sizes());
  TORCH_CHECK(gradient.sizes() == at::IntArrayRef({maps.size(0), weight.size(0), maps.size(2),
                                                   maps.size(3)}),
              "a gradient ", gradient.sizes(), " does not fit maps ", maps.sizes(),
              " and a weight ", weight.sizes());
  TORCH_CHECK(gradient.scalar_type() == weight.scalar_type() &&
                  (maps.scalar_type() == at::kByte || maps.scalar_type() == weight.scalar_type()),
              "gradient, maps and weight must be of one type, or maps of bytes: ",
              gradient.dtype(), ", ", maps.dtype(), " and ", weight.dtype());
  const int64_t lanes = VECTOR_BYTES / weight.element_size();
  TORCH_CHECK(weight.size(0) % lanes == 0 && weight.size(1) % lanes == 0, "channels of a weight ",
              weight.sizes(), ": expected multiples of ", lanes);
  const auto g = gradient.contiguous(LAYOUT), x = maps.contiguous(LAYOUT);
  const auto w = weight.contiguous(LAYOUT);
  auto of_maps = at::empty(maps.sizes(), w.options(), LAYOUT).zero_();
  auto of_weight = at::empty(weight.sizes(), w.options(), LAYOUT);
  if (maps.numel() == 0) return {of_maps, of_weight.zero_()};
  AT_DISPATCH_FLOATING_TYPES(weight.scalar_type(), "convolution_gradients", [&] {
    const auto run = x.scalar_type() == at::kByte ? differentiate<scalar_t, uint8_t>
                                                  : differentiate<scalar_t, scalar_t>;
    run(g, x, w, of_maps, of_weight);
  });
  return {of_maps, of_weight};
}

}  // namespace spiking
