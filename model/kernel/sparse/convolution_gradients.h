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
#include <ATen/ops/empty.h>

#include <algorithm>
#include <cstdint>
#include <tuple>
#include <vector>

#include "minimal_filter.h"
#include "points.h"
#include "vector.h"

namespace spiking {

constexpr int64_t TILES = 256;    // for each thread
constexpr int64_t CHANNELS = 64;  // of the input, and of the output
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

// M tile M' of each tile: M = A for a gradient, B' for maps, with a margin of a pixel.
template <const auto& M, typename scalar, typename value>
void maps_to_points(const Tiled<const value>& maps, const Points<scalar>& points) {
  using Values = Vector<scalar>;
  const std::vector<value> zeros(points.channels);
  at::parallel_for(0, points.rows, 16, [&](int64_t begin, int64_t end) {
    for (int64_t tile = begin; tile < end; ++tile) {
      const value* pixels[M.width][M.width];
      maps.window(tile, zeros.data(), pixels);
      for (int64_t c = 0; c < points.channels; c += Values::lanes) {
        typename Values::type in[M.width][M.width], out[POINTS][POINTS];
        for (int k = 0; k < M.width * M.width; ++k)
          in[k / M.width][k % M.width] = Values::load(pixels[k / M.width][k % M.width] + c);
        tile_to_points<M>(in, out);
        points.put(tile, c, out);
      }
    }
  });
}

// The maps on which B points B', each a tile with its margin, add up. Those of one map overlap: it
// has one thread.
template <typename scalar>
void maps_from_points(const Points<scalar>& points, const Tiled<scalar>& maps) {
  using Values = Vector<scalar>;
  const int64_t tiles = maps.tiles(), pixels_of_map = maps.height * maps.width;
  at::parallel_for(0, points.rows / tiles, 1, [&](int64_t begin, int64_t end) {
    std::vector<scalar> nowhere(points.channels);
    for (int64_t pixel = begin * pixels_of_map; pixel < end * pixels_of_map; ++pixel)
      std::fill_n(maps.values + pixel * maps.stride, points.channels, scalar(0));
    for (int64_t tile = begin * tiles; tile < end * tiles; ++tile) {
      scalar* pixels[POINTS][POINTS];
      maps.window(tile, nowhere.data(), pixels);
      for (int64_t c = 0; c < points.channels; c += Values::lanes) {
        typename Values::type in[POINTS][POINTS], out[POINTS][POINTS];
        points.take(tile, c, in);
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
    for (int64_t o = begin; o < end; ++o)
      for (int64_t c = 0; c < points.channels; c += Values::lanes) {
        typename Values::type in[3][3], out[POINTS][POINTS];
        for (int k = 0; k < 9; ++k) {
          in[k / 3][k % 3] = Values::load(weights + (o * 9 + k) * Ci + c);
          __builtin_prefetch(weights + ((o + 1) * 9 + k) * Ci + c);  // far apart, so not foreseen
        }
        tile_to_points<G>(in, out);
        points.put(o, c, out);
      }
  });
}

// G' points G, the gradient of such weights; added to what is there, or in its place.
template <typename scalar>
void weights_from_points(const Points<scalar>& points, scalar* weights, int64_t Ci, bool add) {
  using Values = Vector<scalar>;
  at::parallel_for(0, points.rows, 4, [&](int64_t begin, int64_t end) {
    for (int64_t o = begin; o < end; ++o)
      for (int64_t c = 0; c < points.channels; c += Values::lanes) {
        typename Values::type in[POINTS][POINTS], out[3][3];
        points.take(o, c, in);
        tile_from_points<G>(in, out);
        for (int k = 0; k < 9; ++k) {
          scalar* weight = weights + (o * 9 + k) * Ci + c;
          Values::store(weight, add ? Values::load(weight) + out[k / 3][k % 3] : out[k / 3][k % 3]);
        }
      }
  });
}

// Memory for points, `most` rows of so many channels or fewer.
template <typename scalar>
struct Memory {
  at::Tensor values;

  Memory(int64_t most, int64_t channels, const at::Tensor& like)
      : values(at::empty({ALL_POINTS * Points<scalar>{nullptr, most, channels}.point()},
                         like.options())) {}
  Points<scalar> of(int64_t rows, int64_t channels) const {
    return {values.mutable_data_ptr<scalar>(), rows, channels};
  }
};

template <typename scalar, typename value>
void differentiate(const at::Tensor& gradient, const at::Tensor& maps, const at::Tensor& weight,
                   const at::Tensor& of_maps, const at::Tensor& of_weight) {
  const int64_t N = maps.size(0), Ci = maps.size(1), height = maps.size(2), width = maps.size(3);
  const int64_t Co = weight.size(0);
  const Tiled<const scalar> g{gradient.const_data_ptr<scalar>(), height, width, Co};
  const Tiled<const value> x{maps.const_data_ptr<value>(), height, width, Ci};
  const Tiled<scalar> g_x{of_maps.mutable_data_ptr<scalar>(), height, width, Ci};
  const auto* w = weight.const_data_ptr<scalar>();
  auto* g_w = of_weight.mutable_data_ptr<scalar>();
  // Parts of equally many maps: at most TILES for each thread, but a map for each.
  const int64_t threads = at::get_num_threads();
  const int64_t fitting = std::max(threads, TILES * threads / g.tiles());
  const int64_t parts = (N + fitting - 1) / fitting, most = (N + parts - 1) / parts;
  const Memory<scalar> gradient_memory(most * g.tiles(), Co, weight);
  const Memory<scalar> map_memory(most * g.tiles(), CHANNELS, weight);
  const Memory<scalar> window_memory(most * g.tiles(), CHANNELS, weight);
  const Memory<scalar> weight_memory(CHANNELS, CHANNELS, weight);

  for (int64_t first = 0; first < N; first += most) {
    const int64_t rows = std::min(most, N - first) * g.tiles();
    const auto of_gradient = gradient_memory.of(rows, Co);
    maps_to_points<A>(g.part(first, 0), of_gradient);
    for (int64_t i = 0; i < Ci; i += CHANNELS) {
      const int64_t inputs = std::min(CHANNELS, Ci - i);
      const auto map_points = map_memory.of(rows, inputs);
      const auto window_points = window_memory.of(rows, inputs);
      maps_to_points<B_T>(x.part(first, i), map_points);
      for (int64_t o = 0; o < Co; o += CHANNELS) {
        const auto weight_points = weight_memory.of(std::min(CHANNELS, Co - o), inputs);
        weights_to_points(w + o * 9 * Ci + i, Ci, weight_points);
        multiply_rows(window_points, of_gradient.from(o), weight_points, o > 0);
        multiply_columns(weight_points, of_gradient.from(o), map_points);
        weights_from_points(weight_points, g_w + o * 9 * Ci + i, Ci, first > 0);
      }
      maps_from_points(window_points, g_x.part(first, i));
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
  auto of_maps = at::empty(maps.sizes(), w.options(), LAYOUT);
  auto of_weight = at::empty(weight.sizes(), w.options(), LAYOUT);
  if (maps.numel() == 0 || weight.numel() == 0) return {of_maps.zero_(), of_weight.zero_()};
  AT_DISPATCH_FLOATING_TYPES(weight.scalar_type(), "convolution_gradients", [&] {
    const auto run = x.scalar_type() == at::kByte ? differentiate<scalar_t, uint8_t>
                                                  : differentiate<scalar_t, scalar_t>;
    run(g, x, w, of_maps, of_weight);
  });
  return {of_maps, of_weight};
}

}  // namespace spiking
