// Squeeze-excite (arXiv:1709.01507), image by image, so that its maps are read from memory once: means over positions,
// two small products with an activation between, and the maps times σ of what comes out. Its gradient likewise, but
// for those of the two matrices, which are products over all images, and XLA's.

#include "activations.h"

namespace scalesearch {
namespace {

constexpr int64_t kParts = 32;  // of the images: partial sums of the biases' gradients are added in their order

struct Shape {
  explicit Shape(const Call& call)
      : images(call.in_dim(0, 0)), positions(call.in_dim(0, 1) * call.in_dim(0, 2)), channels(call.in_dim(0, 3)),
        squeezed(call.in_dim(1, 1)) {}
  const int64_t images, positions, channels, squeezed;

  int64_t parts() const { return std::min(images, kParts); }

  // body(image, its part) for all images
  template <class Body>
  void each(const Call& call, const Body& body) const {
    call.parallel(parts(), [&](int64_t part) {
      const Range range(images, parts(), part);
      for (int64_t image = range.first; image < range.last; ++image) body(image, part);
    });
  }
};

// Σ over rows of value<Lanes>(first float of a row's block), in four sums so that none waits for the one before.
template <int Lanes, class Value>
typename Vector<Lanes>::type sum_rows(int64_t rows, int64_t stride, const Value& value) {
  typename Vector<Lanes>::type sum[4] = {};
  int64_t i = 0;
  for (; i + 4 <= rows; i += 4)
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k) sum[k] += value((i + k) * stride);
  for (; i < rows; ++i) sum[0] += value(i * stride);
  return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

// out = bias + vector · matrix (rows × columns)
void multiply(const float* vector, const float* matrix, const float* bias, int64_t rows, int64_t columns, float* out) {
  for_blocks(columns, [&]<int Lanes>(int64_t c, int64_t) {
    using V = Vector<Lanes>;
    typename V::type sum[4] = {};
    sum[0] = V::load(bias + c);
    int64_t i = 0;
    for (; i + 4 <= rows; i += 4)
#pragma GCC unroll 4
      for (int k = 0; k < 4; ++k) sum[k] += V::load(matrix + (i + k) * columns + c) * vector[i + k];
    for (; i < rows; ++i) sum[0] += V::load(matrix + i * columns + c) * vector[i];
    V::store(out + c, (sum[0] + sum[1]) + (sum[2] + sum[3]));
  });
}

// out[r] = Σ_c matrix[r, c] · vector[c]
void multiply_transposed(const float* vector, const float* matrix, int64_t rows, int64_t columns, float* out) {
  for (int64_t row = 0; row < rows; ++row, matrix += columns) {
    using V = Vector<kLanes>;
    typename V::type sum{};
    int64_t c = 0;
    for (; c + kLanes <= columns; c += kLanes) sum += V::load(matrix + c) * V::load(vector + c);
    float total = 0;
    for (int lane = 0; lane < kLanes; ++lane) total += sum[lane];
    for (; c < columns; ++c) total += matrix[c] * vector[c];
    out[row] = total;
  }
}

// (x, reduce, bias, expand, bias) → (y, means, squeezed before and after their activation, gates)
void forward(const Call& call) {
  const Shape shape(call);
  const float *x = call.in(0), *reduce = call.in(1), *reduce_bias = call.in(2), *expand = call.in(3),
              *expand_bias = call.in(4);
  float *y = call.out(0), *means = call.out(1), *squeezed = call.out(2), *actives = call.out(3), *gates = call.out(4);
  with_activation(call, [&]<int64_t kind>() {
    shape.each(call, [&](int64_t image, int64_t) {
      const int64_t maps = image * shape.positions * shape.channels;
      float *mean = means + image * shape.channels, *hidden = squeezed + image * shape.squeezed,
            *active = actives + image * shape.squeezed, *gate = gates + image * shape.channels;
      for_blocks(shape.channels, [&]<int Lanes>(int64_t c, int64_t) {
        using V = Vector<Lanes>;
        const float* from = x + maps + c;
        const auto sum =
            sum_rows<Lanes>(shape.positions, shape.channels, [=](int64_t at) { return V::load(from + at); });
        V::store(mean + c, sum * (1.0f / static_cast<float>(shape.positions)));
      });
      multiply(mean, reduce, reduce_bias, shape.channels, shape.squeezed, hidden);
      for_blocks(shape.squeezed, [&]<int Lanes>(int64_t c, int64_t) {
        Vector<Lanes>::store(active + c, activate<kind, Lanes>(Vector<Lanes>::load(hidden + c)));
      });
      thread_local std::vector<float> logits;
      logits.resize(shape.channels);
      multiply(active, expand, expand_bias, shape.squeezed, shape.channels, logits.data());
      for_blocks(shape.channels, [&]<int Lanes>(int64_t c, int64_t) {
        using V = Vector<Lanes>;
        const auto factor = sigmoid<Lanes>(V::load(&logits[c]));
        V::store(gate + c, factor);
        for (int64_t i = 0; i < shape.positions; ++i) {
          const int64_t place = maps + i * shape.channels + c;
          V::store(y + place, V::load(x + place) * factor);
        }
      });
    });
  });
}

// (x, reduce, expand, squeezed, gates, g) → (dx, slopes before the first activation (n, squeezed), before σ (n, c), and
// the gradients of both biases)
void backward(const Call& call) {
  const Shape shape(call);
  const float *x = call.in(0), *reduce = call.in(1), *expand = call.in(2), *squeezed = call.in(3),
              *gates = call.in(4), *g = call.in(5);
  float *dx = call.out(0), *squeezed_slopes = call.out(1), *gate_slopes = call.out(2);
  const int64_t biases = shape.squeezed + shape.channels;
  std::vector<float> sums(shape.parts() * biases);
  with_activation(call, [&]<int64_t kind>() {
    shape.each(call, [&](int64_t image, int64_t part) {
      const int64_t maps = image * shape.positions * shape.channels;
      const float *hidden = squeezed + image * shape.squeezed, *gate = gates + image * shape.channels;
      float* hidden_slope = squeezed_slopes + image * shape.squeezed;
      float* gate_slope = gate_slopes + image * shape.channels;
      for_blocks(shape.channels, [&]<int Lanes>(int64_t c, int64_t) {
        using V = Vector<Lanes>;
        const float *from = x + maps + c, *slopes = g + maps + c;
        const auto sum = sum_rows<Lanes>(shape.positions, shape.channels,
                                         [=](int64_t at) { return V::load(from + at) * V::load(slopes + at); });
        const auto open = V::load(gate + c);
        V::store(gate_slope + c, sum * (open - open * open));
      });
      thread_local std::vector<float> slope, means;
      slope.resize(shape.squeezed), means.resize(shape.channels);
      multiply_transposed(gate_slope, expand, shape.squeezed, shape.channels, slope.data());
      for_blocks(shape.squeezed, [&]<int Lanes>(int64_t c, int64_t) {
        using V = Vector<Lanes>;
        V::store(hidden_slope + c, pull<kind, Lanes>(V::load(hidden + c), V::load(&slope[c])));
      });
      multiply_transposed(hidden_slope, reduce, shape.channels, shape.squeezed, means.data());
      for_blocks(shape.channels, [&]<int Lanes>(int64_t c, int64_t) {
        using V = Vector<Lanes>;
        const auto open = V::load(gate + c);
        const auto mean = V::load(&means[c]) * (1.0f / static_cast<float>(shape.positions));
        for (int64_t i = 0; i < shape.positions; ++i) {
          const int64_t place = maps + i * shape.channels + c;
          V::store(dx + place, V::load(g + place) * open + mean);
        }
      });
      float* total = &sums[part * biases];
      for (int64_t c = 0; c < shape.squeezed; ++c) total[c] += hidden_slope[c];
      for (int64_t c = 0; c < shape.channels; ++c) total[shape.squeezed + c] += gate_slope[c];
    });
  });
  float *reduce_bias = call.out(3), *expand_bias = call.out(4);
  std::fill_n(reduce_bias, shape.squeezed, 0.0f);
  std::fill_n(expand_bias, shape.channels, 0.0f);
  for (int64_t part = 0; part < shape.parts(); ++part) {
    const float* total = &sums[part * biases];
    for (int64_t c = 0; c < shape.squeezed; ++c) reduce_bias[c] += total[c];
    for (int64_t c = 0; c < shape.channels; ++c) expand_bias[c] += total[shape.squeezed + c];
  }
}

// x → its means over positions, (n, c)
void pool(const Call& call) {
  const int64_t images = call.in_dim(0, 0), positions = call.in_dim(0, 1) * call.in_dim(0, 2);
  const int64_t channels = call.in_dim(0, 3);
  const float* x = call.in(0);
  float* means = call.out(0);
  call.parallel(images, [=](int64_t image) {
    for_blocks(channels, [=]<int Lanes>(int64_t c, int64_t) {
      using V = Vector<Lanes>;
      const float* from = x + image * positions * channels + c;
      const auto sum = sum_rows<Lanes>(positions, channels, [=](int64_t at) { return V::load(from + at); });
      V::store(means + image * channels + c, sum * (1.0f / static_cast<float>(positions)));
    });
  });
}

// (gradient of the means) → gradient of x
void pool_gradient(const Call& call) {
  const int64_t images = call.out_dim(0, 0), positions = call.out_dim(0, 1) * call.out_dim(0, 2);
  const int64_t channels = call.out_dim(0, 3);
  const float* g = call.in(0);
  float* dx = call.out(0);
  call.parallel(images, [=](int64_t image) {
    for_blocks(channels, [=]<int Lanes>(int64_t c, int64_t) {
      using V = Vector<Lanes>;
      const auto slope = V::load(g + image * channels + c) * (1.0f / static_cast<float>(positions));
      for (int64_t i = 0; i < positions; ++i) V::store(dx + (image * positions + i) * channels + c, slope);
    });
  });
}

}  // namespace
}  // namespace scalesearch

SCALESEARCH_KERNEL(scalesearch_excite, scalesearch::forward)
SCALESEARCH_KERNEL(scalesearch_excite_gradient, scalesearch::backward)
SCALESEARCH_KERNEL(scalesearch_pool, scalesearch::pool)
SCALESEARCH_KERNEL(scalesearch_pool_gradient, scalesearch::pool_gradient)
