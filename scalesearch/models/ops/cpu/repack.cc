// Arrays as other arrays of the same numbers: parameters from one long vector, gradients into it, blocks from a stack.
// What stands in the arguments, one after the other, is what will stand in the results.

#include "call.h"

namespace scalesearch {
namespace {

void repack(const Call& call) {
  int from = 0;
  int64_t taken = 0;
  for (int to = 0; to < call.results(); ++to) {
    float* out = call.out(to);
    for (int64_t left = call.out_floats(to); left > 0;) {
      const int64_t floats = std::min(left, call.in_floats(from) - taken);
      out = std::copy_n(call.in(from) + taken, floats, out);
      left -= floats, taken += floats;
      if (taken == call.in_floats(from)) ++from, taken = 0;
    }
  }
}

}  // namespace
}  // namespace scalesearch

SCALESEARCH_KERNEL(scalesearch_repack, scalesearch::repack)
