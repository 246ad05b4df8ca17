// Depthwise convolution of NHWC maps: y[n,i,j,c] = Σ_{d,e} x[n, i·s + d − p, j·s + e − p, c] · w[d,e,c], and both
// gradients in one pass.
//
// A block of channels of one image is copied between zeros into the cache, so that no tap needs a bound; a tile of
// outputs stays in registers while all taps are added to it.

#include "call.h"

namespace scalesearch {
namespace {

constexpr int64_t kParts = 32;  // of the images at most: partial sums of the kernel gradient are added in their order
constexpr int64_t kPartFloats = 16384;  // of the maps, at least: each part begins with weights and zeros
constexpr int64_t kGroupFloats = 65536;  // of the maps that are kept near: what a block leaves of a cache line is next

struct Shape {
  explicit Shape(const Call& call)
      : images(call.in_dim(0, 0)), channels(call.in_dim(0, 3)), height(call.in_dim(0, 1)), width(call.in_dim(0, 2)),
        size(call.in_dim(1, 0)), stride(call.attribute("stride")), out_height((height + stride - 1) / stride),
        out_width((width + stride - 1) / stride), padding(size / 2) {}
  const int64_t images, channels;
  const int height, width, size, stride, out_height, out_width, padding;

  int64_t parts() const {
    return std::clamp<int64_t>(images * in_floats() / kPartFloats, 1, std::min(images, kParts));
  }
  int64_t in_floats() const { return height * width * channels; }
  int64_t out_floats() const { return out_height * out_width * channels; }
  int64_t weights() const { return size * size * channels; }

  // body<Lanes>(part, images, first channel, lanes covered before) for groups of images and blocks of channels.
  template <class Body>
  void each(const Call& call, const Body& body) const {
    const int64_t together = std::clamp<int64_t>(kGroupFloats / std::max(in_floats(), int64_t{1}), 1, images);
    call.parallel(parts(), [&](int64_t part) {
      const Range all(images, parts(), part);
      const int64_t groups = (all.last - all.first + together - 1) / together;
      for (int64_t i = 0; i < groups; ++i) {
        Range group(all.last - all.first, groups, i);
        group.first += all.first, group.last += all.first;
        for_blocks(channels, [&]<int Lanes>(int64_t c, int64_t covered) {
          body.template operator()<Lanes>(part, group, c, covered);
        });
      }
    });
  }
};

// A map of one block of channels, rows × columns × Lanes, between zeros.
class Padded {
 public:
  template <int Lanes>
  void clear(int rows, int columns, int low, int high) {
    rows_ = rows, columns_ = columns, width_ = columns + low + high, first_ = (low * width_ + low) * Lanes;
    values_.assign(static_cast<size_t>(rows + low + high) * width_ * Lanes, 0.0f);
  }
  template <int Lanes>
  void fill(const float* from, int64_t channels) {
    using V = Vector<Lanes>;
    for (int row = 0; row < rows_; ++row) {
      float* to = values_.data() + first_ + row * width_ * Lanes;
      for (int column = 0; column < columns_; ++column, from += channels, to += Lanes) V::store(to, V::load(from));
    }
  }
  int width() const { return width_; }
  const float* data() const { return values_.data(); }
  const float* inside() const { return values_.data() + first_; }

 private:
  std::vector<float> values_;
  int rows_ = 0, columns_ = 0, width_ = 0, first_ = 0;
};

// What is added up for each output of a phase: where, counted in floats from its place, and times which weights.
struct Taps {
  std::vector<int> offsets;
  std::vector<float> weights;
  std::vector<int> rows;  // the map's row of each line of taps, from the output's row
  int per_row = 0;

  void clear() { offsets.clear(), weights.clear(), rows.clear(); }

  // Lines of taps [first, last) whose rows lie in the map, for the output's row `row`: rows ascend or descend.
  std::pair<int, int> inside(int row, int height) const {
    int first = 0, last = static_cast<int>(rows.size());
    const auto outside = [&](int line) { return row + rows[line] < 0 || row + rows[line] >= height; };
    while (first < last && outside(first)) ++first;
    while (first < last && outside(last - 1)) --last;
    return {first, last};
  }
};

// out[t] = Σ taps of what `source` holds Step · Lanes floats further for each t.
template <int Lanes, int Step, int Tile>
inline void weigh(const float* source, const int* offsets, const float* weights, int taps, float* out,
                  int64_t out_step) {
  using V = Vector<Lanes>;
  typename V::type sum[Tile] = {};
  for (int tap = 0; tap < taps; ++tap) {
    const auto weight = V::load(weights + tap * Lanes);
    const float* from = source + offsets[tap];
#pragma GCC unroll 8
    for (int t = 0; t < Tile; ++t) sum[t] += weight * V::load(from + t * Step * Lanes);
  }
#pragma GCC unroll 8
  for (int t = 0; t < Tile; ++t) V::store(out + t * out_step, sum[t]);
}

// `count` outputs in tiles of one size, of which the last may overlap the one before.
template <int Lanes, int Step, int Tile = 8>
void weigh_row(int count, const float* source, const int* offsets, const float* weights, int taps, float* out,
               int64_t out_step) {
  const int tiles = (count + 7) / 8, size = (count + tiles - 1) / tiles;
  if constexpr (Tile > 1) {
    if (size < Tile) return weigh_row<Lanes, Step, Tile - 1>(count, source, offsets, weights, taps, out, out_step);
  }
  for (int t = 0; t < tiles; ++t) {
    const int first = std::min(t * Tile, count - Tile);
    weigh<Lanes, Step, Tile>(source + first * Step * Lanes, offsets, weights, taps, out + first * out_step, out_step);
  }
}

// A row of outputs of a map whose columns are `step` apart.
template <int Lanes>
void weigh_row(int step, int count, const float* source, const Taps& taps, std::pair<int, int> lines, float* out,
               int64_t out_step) {
  const int first = lines.first * taps.per_row, number = (lines.second - lines.first) * taps.per_row;
  const int* offsets = taps.offsets.data() + first;
  const float* weights = taps.weights.data() + first * Lanes;
  if (step == 1) return weigh_row<Lanes, 1>(count, source, offsets, weights, number, out, out_step);
  if (step == 2) return weigh_row<Lanes, 2>(count, source, offsets, weights, number, out, out_step);
  for (int j = 0; j < count; ++j)
    weigh<Lanes, 1, 1>(source + j * step * Lanes, offsets, weights, number, out + j * out_step, out_step);
}

void forward(const Call& call) {
  const Shape shape(call);
  const float *x = call.in(0), *kernel = call.in(1);
  float* y = call.out(0);
  shape.each(call, [&]<int Lanes>(int64_t, const Range& images, int64_t c, int64_t) {
    thread_local Padded own_padded;
    thread_local Taps own_taps;
    Padded& padded = own_padded;  // the address of what is local to a thread costs a call each time
    Taps& taps = own_taps;
    padded.clear<Lanes>(shape.height, shape.width, shape.padding, shape.padding);
    taps.clear();
    taps.per_row = shape.size;
    for (int d = 0; d < shape.size; ++d) {
      taps.rows.push_back(d - shape.padding);
      for (int e = 0; e < shape.size; ++e) {
        taps.offsets.push_back((d * padded.width() + e) * Lanes);
        const float* weight = kernel + (d * shape.size + e) * shape.channels + c;
        taps.weights.insert(taps.weights.end(), weight, weight + Lanes);
      }
    }
    for (int64_t image = images.first; image < images.last; ++image) {
      padded.fill<Lanes>(x + image * shape.in_floats() + c, shape.channels);
      float* out = y + image * shape.out_floats() + c;
      for (int row = 0; row < shape.out_height; ++row, out += shape.out_width * shape.channels) {
        const int top = row * shape.stride;
        weigh_row<Lanes>(shape.stride, shape.out_width, padded.data() + top * padded.width() * Lanes, taps,
                         taps.inside(top, shape.height), out, shape.channels);
      }
    }
  });
}

// The taps of one phase of the input's gradient. Input row s·t + a receives from output row t + (a + p − d) / s, for
// the kernel rows d that make this whole; likewise columns.
template <int Lanes>
void set_phase(const Shape& shape, int a, int b, int low, int width, const float* kernel, int64_t c, Taps& taps) {
  const int p = shape.padding, s = shape.stride;
  taps.clear();
  for (int d = 0; d < shape.size; ++d) {
    if ((a + p - d) % s != 0) continue;
    taps.rows.push_back((a + p - d) / s);
    for (int e = 0; e < shape.size; ++e) {
      if ((b + p - e) % s != 0) continue;
      taps.offsets.push_back(((low + (a + p - d) / s) * width + low + (b + p - e) / s) * Lanes);
      const float* weight = kernel + (d * shape.size + e) * shape.channels + c;
      taps.weights.insert(taps.weights.end(), weight, weight + Lanes);
    }
  }
  taps.per_row = taps.rows.empty() ? 0 : static_cast<int>(taps.offsets.size() / taps.rows.size());
}

// Adds to total[d, e] of Rows × Columns taps the sum over the outputs of one image of what each tap read times the
// output's slope. `x` and `g` are padded maps, `size` the taps of a row.
template <int Lanes, int Rows, int Columns>
void correlate(const Shape& shape, const float* x, int x_width, const float* g, int g_width, float* total) {
  using V = Vector<Lanes>;
  typename V::type sum[Rows][Columns] = {};
  for (int i = 0; i < shape.out_height; ++i) {
    const float *row = x + i * shape.stride * x_width * Lanes, *slopes = g + i * g_width * Lanes;
    for (int j = 0; j < shape.out_width; ++j, slopes += Lanes, row += shape.stride * Lanes) {
      const auto slope = V::load(slopes);
#pragma GCC unroll 8
      for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 8
        for (int e = 0; e < Columns; ++e) sum[r][e] += slope * V::load(row + (r * x_width + e) * Lanes);
    }
  }
  for (int r = 0; r < Rows; ++r)
    for (int e = 0; e < Columns; ++e) {
      float* to = total + (r * shape.size + e) * Lanes;
      V::store(to, V::load(to) + sum[r][e]);
    }
}

// All taps of the kernel, as many at a time as there are registers for their sums.
template <int Lanes>
void correlate_all(const Shape& shape, const Padded& x, const Padded& g, float* total) {
  const auto at = [&]<int Rows, int Columns>(int d, int e) {
    correlate<Lanes, Rows, Columns>(shape, x.data() + (d * x.width() + e) * Lanes, x.width(), g.inside(), g.width(),
                                    total + (d * shape.size + e) * Lanes);
  };
  if (shape.size == 3) {
    at.template operator()<3, 3>(0, 0);
  } else if (shape.size == 5) {
    at.template operator()<2, 5>(0, 0);
    at.template operator()<2, 5>(2, 0);
    at.template operator()<1, 5>(4, 0);
  } else if (shape.size == 7) {
    for (int d = 0; d < 7; ++d) at.template operator()<1, 7>(d, 0);
  } else {
    for (int d = 0; d < shape.size; ++d)
      for (int e = 0; e < shape.size; ++e) at.template operator()<1, 1>(d, e);
  }
}

struct Scratch {
  Padded x, g;
  std::vector<Taps> phases;
  std::vector<float> total;
};

void backward(const Call& call) {
  const Shape shape(call);
  const float *x = call.in(0), *kernel = call.in(1), *g = call.in(2);
  float *dx = call.out(0), *dkernel = call.out(1);
  const int s = shape.stride, taps_count = shape.size * shape.size;
  // the furthest that a phase reads from its own row
  const int low = (shape.size - 1 - shape.padding) / s, high = (s - 1 + shape.padding) / s;
  std::vector<float> sums(shape.parts() * shape.weights());
  shape.each(call, [&]<int Lanes>(int64_t part, const Range& images, int64_t c, int64_t covered) {
    thread_local Scratch scratch;
    auto& [padded_x, padded_g, phases, total] = scratch;
    padded_x.clear<Lanes>(shape.height, shape.width, shape.padding, shape.padding);
    padded_g.clear<Lanes>(shape.out_height, shape.out_width, low, high);
    if (static_cast<int>(phases.size()) < s * s) phases.resize(s * s);
    for (int phase = 0; phase < s * s; ++phase)
      set_phase<Lanes>(shape, phase / s, phase % s, low, padded_g.width(), kernel, c, phases[phase]);
    total.assign(taps_count * Lanes, 0.0f);
    for (int64_t image = images.first; image < images.last; ++image) {
      padded_x.fill<Lanes>(x + image * shape.in_floats() + c, shape.channels);
      padded_g.fill<Lanes>(g + image * shape.out_floats() + c, shape.channels);
      float* out = dx + image * shape.in_floats() + c;
      for (int row = 0; row < shape.height; ++row, out += shape.width * shape.channels)
        for (int b = 0; b < s && b < shape.width; ++b) {
          const Taps& taps = phases[row % s * s + b];
          weigh_row<Lanes>(1, (shape.width - b + s - 1) / s, padded_g.data() + row / s * padded_g.width() * Lanes, taps,
                           taps.inside(row / s, shape.out_height), out + b * shape.channels, s * shape.channels);
        }
      correlate_all<Lanes>(shape, padded_x, padded_g, total.data());
    }
    float* to = &sums[part * shape.weights() + c];
    for (int tap = 0; tap < taps_count; ++tap)
      for (int64_t lane = covered; lane < Lanes; ++lane) to[tap * shape.channels + lane] += total[tap * Lanes + lane];
  });
  std::fill_n(dkernel, shape.weights(), 0.0f);
  for (int64_t part = 0; part < shape.parts(); ++part)
    for (int64_t i = 0; i < shape.weights(); ++i) dkernel[i] += sums[part * shape.weights() + i];
}

}  // namespace
}  // namespace scalesearch

SCALESEARCH_KERNEL(scalesearch_depthwise, scalesearch::forward)
SCALESEARCH_KERNEL(scalesearch_depthwise_gradient, scalesearch::backward)
