// What each output of a dense convolution reads, side by side in the order of the kernel's rows, and the way back: the
// convolution itself is then a matrix product.

#include "call.h"

namespace scalesearch {
namespace {

struct Geometry {
  int64_t images, height, width, channels, size, stride, out_height, out_width;

  Geometry(int64_t n, int64_t h, int64_t w, int64_t c, int64_t k, int64_t s)
      : images(n), height(h), width(w), channels(c), size(k), stride(s), out_height((h + s - 1) / s),
        out_width((w + s - 1) / s) {}

  // body(first float in the map, first float in the patches, floats) for each run of positions inside the map that one
  // output reads in one row; `outside` likewise for the floats of its patch that lie beyond the edge.
  template <class Inside, class Outside>
  void runs(int64_t image, const Inside& inside, const Outside& outside) const {
    const int64_t p = size / 2, row_floats = size * channels;
    int64_t patch = image * out_height * out_width * size * row_floats;
    for (int64_t i = 0; i < out_height; ++i)
      for (int64_t j = 0; j < out_width; ++j)
        for (int64_t d = 0; d < size; ++d, patch += row_floats) {
          const int64_t row = i * stride + d - p, column = j * stride - p;
          if (row < 0 || row >= height) {
            outside(patch, row_floats);
            continue;
          }
          const int64_t before = std::max<int64_t>(0, -column), end = std::min(size, width - column);
          outside(patch, before * channels);
          inside(((image * height + row) * width + column + before) * channels, patch + before * channels,
                 (end - before) * channels);
          outside(patch + end * channels, (size - end) * channels);
        }
  }
};

// x (n, h, w, c) → (n, ho, wo, k²·c), zero beyond the edges
void patches(const Call& call) {
  const Geometry shape(call.in_dim(0, 0), call.in_dim(0, 1), call.in_dim(0, 2), call.in_dim(0, 3),
                       call.attribute("size"), call.attribute("stride"));
  const float* x = call.in(0);
  float* to = call.out(0);
  call.parallel(shape.images, [&](int64_t image) {
    shape.runs(
        image,
        [&](int64_t from, int64_t patch, int64_t floats) {
          for (int64_t k = 0; k < floats; ++k) to[patch + k] = x[from + k];
        },
        [&](int64_t patch, int64_t floats) {
          for (int64_t k = 0; k < floats; ++k) to[patch + k] = 0.0f;
        });
  });
}

// gradients of patches → gradient of x: each position sums what its readers give
void patches_gradient(const Call& call) {
  const Geometry shape(call.out_dim(0, 0), call.out_dim(0, 1), call.out_dim(0, 2), call.out_dim(0, 3),
                       call.attribute("size"), call.attribute("stride"));
  const float* g = call.in(0);
  float* dx = call.out(0);
  const int64_t floats_of_image = shape.height * shape.width * shape.channels;
  call.parallel(shape.images, [&](int64_t image) {
    std::fill_n(dx + image * floats_of_image, floats_of_image, 0.0f);
    shape.runs(
        image,
        [&](int64_t to, int64_t patch, int64_t floats) {
          for (int64_t k = 0; k < floats; ++k) dx[to + k] += g[patch + k];
        },
        [](int64_t, int64_t) {});
  });
}

}  // namespace
}  // namespace scalesearch

SCALESEARCH_KERNEL(scalesearch_patches, scalesearch::patches)
SCALESEARCH_KERNEL(scalesearch_patches_gradient, scalesearch::patches_gradient)
