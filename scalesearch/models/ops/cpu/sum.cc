// The sum of two arrays of one shape.

#include "call.h"

namespace scalesearch {
namespace {

void sum(const Call& call) {
  const int64_t floats = call.out_floats(0), parts = std::clamp<int64_t>(floats / 32768, 1, 64);
  const float *a = call.in(0), *b = call.in(1);
  float* to = call.out(0);
  call.parallel(parts, [&](int64_t part) {
    const Range range(floats, parts, part);
    for (int64_t i = range.first; i < range.last; ++i) to[i] = a[i] + b[i];
  });
}

}  // namespace
}  // namespace scalesearch

SCALESEARCH_KERNEL(scalesearch_sum, scalesearch::sum)
