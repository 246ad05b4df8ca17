// Depthwise convolution of NHWC maps: y[n,i,j,c] = Σ_{d,e} x[n, i·s + d − p, j·s + e − p, c] · w[d,e,c], and both
// gradients in one pass over an image.
//
// A block of channels of one image is copied between zeros into the cache, so that no tap needs a bound; a tile of
// outputs stays in registers while all taps are added to it.

#include "call.h"

namespace scalesearch {
namespace {

constexpr int64_t kParts = 32;  // of the images: partial sums of the kernel gradient are added in their order

struct Taps {  // where each tap reads, counted in floats from the first one, and its weights
  std::vector<int> offsets;
  std::vector<float> weights;
};

// out[t] = Σ taps of what `source` holds `step` floats further for each t.
template <int Lanes, int Tile>
inline void weigh(const float* source, const int* offsets, const float* weights, int taps, int step, float* out,
                  int64_t out_step) {
  using V = Vector<Lanes>;
  typename V::type sum[Tile] = {};
  for (int tap = 0; tap < taps; ++tap) {
    const auto weight = V::load(weights + tap * Lanes);
    const float* from = source + offsets[tap];
#pragma GCC unroll 8
    for (int t = 0; t < Tile; ++t) sum[t] += weight * V::load(from + t * step);
  }
#pragma GCC unroll 8
  for (int t = 0; t < Tile; ++t) V::store(out + t * out_step, sum[t]);
}

// `count` outputs in tiles of one size, of which the last may overlap the one before.
template <int Lanes, int Tile = 8>
void weigh_row(int count, const float* source, const int* offsets, const float* weights, int taps, int step,
               float* out, int64_t out_step) {
  const int tiles = (count + 7) / 8, size = (count + tiles - 1) / tiles;
  if constexpr (Tile > 1) {
    if (size < Tile)
      return weigh_row<Lanes, Tile - 1>(count, source, offsets, weights, taps, step, out, out_step);
  }
  for (int t = 0; t < tiles; ++t) {
    const int first = std::min(t * Tile, count - Tile);
    weigh<Lanes, Tile>(source + first * step, offsets, weights, taps, step, out + first * out_step, out_step);
  }
}

// A map of one block of channels: rows × columns × Lanes, zero on its edges.
class Padded {
 public:
  void resize(int rows, int columns, int low, int high, int lanes) {
    low_ = low, high_ = high, rows_ = rows, columns_ = columns;
    width_ = columns + low + high;
    values_.resize(static_cast<size_t>(rows + low + high) * width_ * lanes);
  }
  int width() const { return width_; }
  const float* data() const { return values_.data(); }

  template <int Lanes>
  const float* fill(const float* from, int64_t channels) {
    using V = Vector<Lanes>;
    float* to = values_.data();
    const auto zeros = [&to](int count) { to = std::fill_n(to, static_cast<size_t>(count) * Lanes, 0.0f); };
    zeros(low_ * width_);
    for (int row = 0; row < rows_; ++row) {
      zeros(low_);
      for (int column = 0; column < columns_; ++column, from += channels, to += Lanes) V::store(to, V::load(from));
      zeros(high_);
    }
    zeros(high_ * width_);
    return values_.data();
  }

 private:
  std::vector<float> values_;
  int low_ = 0, high_ = 0, rows_ = 0, columns_ = 0, width_ = 0;
};

struct Shape {
  Shape(const Call& call)
      : images(call.in_dim(0, 0)), height(call.in_dim(0, 1)), width(call.in_dim(0, 2)), channels(call.in_dim(0, 3)),
        size(call.in_dim(1, 0)), stride(call.attribute("stride")), out_height((height + stride - 1) / stride),
        out_width((width + stride - 1) / stride) {}
  const int64_t images;
  const int height, width;
  const int64_t channels;
  const int size, stride, out_height, out_width;

  int64_t parts() const { return std::min(images, kParts); }
};

void forward(const Call& call) {
  const Shape shape(call);
  const float *x = call.in(0), *kernel = call.in(1);
  float* y = call.out(0);
  const int padding = shape.size / 2, count = shape.size * shape.size;
  call.parallel(shape.parts(), [&](int64_t part) {
    thread_local Padded padded;
    thread_local Taps taps;
    const Range range(shape.images, shape.parts(), part);
    for (int64_t image = range.first; image < range.last; ++image) {
      for_blocks(shape.channels, [&]<int Lanes>(int64_t c) {
        padded.resize(shape.height, shape.width, padding, padding, Lanes);
        taps.offsets.resize(count), taps.weights.resize(count * Lanes);
        for (int tap = 0; tap < count; ++tap) {
          taps.offsets[tap] = (tap / shape.size * padded.width() + tap % shape.size) * Lanes;
          std::copy_n(kernel + tap * shape.channels + c, Lanes, &taps.weights[tap * Lanes]);
        }
        const int64_t pixels = int64_t{shape.height} * shape.width;
        const float* source = padded.fill<Lanes>(x + image * pixels * shape.channels + c, shape.channels);
        for (int row = 0; row < shape.out_height; ++row) {
          float* out = y + (image * shape.out_height + row) * shape.out_width * shape.channels + c;
          weigh_row<Lanes>(shape.out_width, source + int64_t{row} * shape.stride * padded.width() * Lanes,
                           taps.offsets.data(), taps.weights.data(), count, shape.stride * Lanes, out,
                           shape.channels);
        }
      });
    }
  });
}

// The taps of one phase of the input's gradient. Input row s·t + a receives from output row t + (a + p − d) / s, for
// the kernel rows d that make this whole; likewise columns.
template <int Lanes>
int phase_taps(const Shape& shape, int a, int b, int low, int width, const float* kernel, int64_t c, Taps& taps) {
  const int p = shape.size / 2, s = shape.stride;
  taps.offsets.clear(), taps.weights.clear();
  for (int d = 0; d < shape.size; ++d) {
    if ((a + p - d) % s != 0) continue;
    for (int e = 0; e < shape.size; ++e) {
      if ((b + p - e) % s != 0) continue;
      taps.offsets.push_back(((low + (a + p - d) / s) * width + low + (b + p - e) / s) * Lanes);
      const float* weight = kernel + (d * shape.size + e) * shape.channels + c;
      taps.weights.insert(taps.weights.end(), weight, weight + Lanes);
    }
  }
  return static_cast<int>(taps.offsets.size());
}

// total[d, e] of Rows × Columns taps and one block of channels: the sum over the outputs of one image of what each tap
// read times the output's slope. Rows of taps are `size` taps apart, taps `channels` floats.
template <int Lanes, int Rows, int Columns>
void correlate(const Shape& shape, const float* source, int width, const float* g, float* total) {
  using V = Vector<Lanes>;
  typename V::type sum[Rows][Columns] = {};
  for (int i = 0; i < shape.out_height; ++i) {
    const float* row = source + int64_t{i} * shape.stride * width * Lanes;
    for (int j = 0; j < shape.out_width; ++j, g += shape.channels, row += shape.stride * Lanes) {
      const auto slope = V::load(g);
#pragma GCC unroll 8
      for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 8
        for (int e = 0; e < Columns; ++e) sum[r][e] += slope * V::load(row + (r * width + e) * Lanes);
    }
  }
  for (int r = 0; r < Rows; ++r)
    for (int e = 0; e < Columns; ++e) V::store(total + (r * shape.size + e) * shape.channels, sum[r][e]);
}

// All taps of the kernel, as many at a time as there are registers for their sums.
template <int Lanes>
void correlate_all(const Shape& shape, const float* source, int width, const float* g, float* total) {
  const auto at = [&]<int Rows, int Columns>(int d, int e) {
    correlate<Lanes, Rows, Columns>(shape, source + (d * width + e) * Lanes, width, g,
                                    total + (d * shape.size + e) * shape.channels);
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

void backward(const Call& call) {
  const Shape shape(call);
  const float *x = call.in(0), *kernel = call.in(1), *g = call.in(2);
  float *dx = call.out(0), *dkernel = call.out(1);
  const int p = shape.size / 2, s = shape.stride;
  const int low = (shape.size - 1 - p) / s, high = (s - 1 + p) / s;  // the furthest that a phase reads from its own row
  const int64_t weights = shape.size * shape.size * shape.channels;
  const int64_t in_floats = shape.height * shape.width * shape.channels;
  const int64_t out_floats = shape.out_height * shape.out_width * shape.channels;
  std::vector<float> sums(shape.parts() * weights);
  call.parallel(shape.parts(), [&](int64_t part) {
    thread_local Padded padded;
    thread_local Taps taps;
    thread_local std::vector<float> of_image;
    of_image.resize(weights);
    const Range range(shape.images, shape.parts(), part);
    for (int64_t image = range.first; image < range.last; ++image) {
      for_blocks(shape.channels, [&]<int Lanes>(int64_t c) {
        const float* slopes = g + image * out_floats + c;
        padded.resize(shape.out_height, shape.out_width, low, high, Lanes);
        const float* source = padded.fill<Lanes>(slopes, shape.channels);
        float* to = dx + image * in_floats + c;
        for (int a = 0; a < s; ++a)
          for (int b = 0; b < s && b < shape.width; ++b) {
            const int count = phase_taps<Lanes>(shape, a, b, low, padded.width(), kernel, c, taps);
            for (int row = a; row < shape.height; row += s)
              weigh_row<Lanes>((shape.width - b + s - 1) / s, source + int64_t{row / s} * padded.width() * Lanes,
                               taps.offsets.data(), taps.weights.data(), count, Lanes,
                               to + (int64_t{row} * shape.width + b) * shape.channels, s * shape.channels);
          }
        padded.resize(shape.height, shape.width, p, p, Lanes);
        source = padded.fill<Lanes>(x + image * in_floats + c, shape.channels);
        correlate_all<Lanes>(shape, source, padded.width(), slopes, of_image.data() + c);
      });
      float* total = &sums[part * weights];
      for (int64_t i = 0; i < weights; ++i) total[i] += of_image[i];
    }
  });
  std::fill_n(dkernel, weights, 0.0f);
  for (int64_t part = 0; part < shape.parts(); ++part)
    for (int64_t i = 0; i < weights; ++i) dkernel[i] += sums[part * weights + i];
}

}  // namespace
}  // namespace scalesearch

SCALESEARCH_KERNEL(scalesearch_depthwise, scalesearch::forward)
SCALESEARCH_KERNEL(scalesearch_depthwise_gradient, scalesearch::backward)
