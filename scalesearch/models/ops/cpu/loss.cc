// Cross-entropy of rows of logits with smoothed labels, and its slope in each logit: p − q, where p is the softmax and
// q = (1 − ε) · onehot + ε / K. A label that is no class has no loss: NaN.

#include <cmath>

#include "call.h"

namespace scalesearch {
namespace {

// logits (n, k), whole labels (n), ε () → losses (n), slopes (n, k)
void cross_entropy(const Call& call) {
  const int64_t rows = call.in_dim(0, 0), classes = call.in_dim(0, 1);
  const float* logits = call.in(0);
  const int32_t* labels = call.in<int32_t>(1);
  const double smoothing = *call.in(2);
  float *losses = call.out(0), *slopes = call.out(1);
  const int64_t parts = std::clamp<int64_t>(rows * classes / 16384, 1, std::min<int64_t>(64, rows));
  call.parallel(parts, [&](int64_t part) {
    const Range range(rows, parts, part);
    for (int64_t row = range.first; row < range.last; ++row) {
      const float* x = logits + row * classes;
      float* slope = slopes + row * classes;
      const float largest = *std::max_element(x, x + classes);
      double powers = 0, distances = 0;
      for (int64_t k = 0; k < classes; ++k) {
        slope[k] = std::exp(x[k] - largest);
        powers += slope[k];
        distances += largest - x[k];
      }
      const bool known = 0 <= labels[row] && labels[row] < classes;
      const double to_label = known ? largest - x[labels[row]] : NAN;
      const double even = smoothing == 0 ? 0 : smoothing * distances / classes;
      losses[row] = static_cast<float>(std::log(powers) + (1 - smoothing) * to_label + even);
      for (int64_t k = 0; k < classes; ++k)
        slope[k] = static_cast<float>(slope[k] / powers - smoothing / classes - (k == labels[row] ? 1 - smoothing : 0));
    }
  });
}

}  // namespace
}  // namespace scalesearch

SCALESEARCH_KERNEL(scalesearch_cross_entropy, scalesearch::cross_entropy)
