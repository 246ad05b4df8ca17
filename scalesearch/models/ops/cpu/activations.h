// The activations of a network and their derivatives, on vectors of floats.

#pragma once

#include <cmath>

#include "call.h"

namespace scalesearch {

enum Activation : int64_t { kNone, kSwish, kRelu, kRelu6, kHardSwish };

template <int Lanes>
using Floats = typename Vector<Lanes>::type;

// `value` limited to [low, high]; NaN stays NaN.
template <class V>
inline V limit(V value, float low, float high) {
  const V least = V{} + low, most = V{} + high;
  value = value < least ? least : value;
  return value > most ? most : value;
}

// σ(z) = 1 / (1 + exp(−z)), to two units in the last place: exp(x) = 2^n · exp(r), |r| ≤ ½ ln 2 (Cephes' expf).
template <int Lanes>
inline Floats<Lanes> sigmoid(Floats<Lanes> z) {
  typedef int32_t Bits __attribute__((vector_size(Lanes * sizeof(int32_t))));
  const auto x = limit(-z, -87.0f, 88.0f);
  const auto shifted = x * 1.44269504f + 12582912.0f;  // 1.5 · 2²³: its sum has no digits behind the point,
  const Bits n = (Bits)shifted + 127;                  // and its low bits are the whole number that x / ln 2 rounds to
  const auto whole = shifted - 12582912.0f;
  const auto r = x - whole * 0.693359375f + whole * 2.12194440e-4f;
  auto p = r * 1.9875691500e-4f + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  return 1.0f / (p * (Floats<Lanes>)(n << 23) + 1.0f);
}

template <int64_t kind, int Lanes>
inline Floats<Lanes> activate(Floats<Lanes> z) {
  if constexpr (kind == kSwish) return z * sigmoid<Lanes>(z);
  if constexpr (kind == kRelu) return limit(z, 0.0f, INFINITY);
  if constexpr (kind == kRelu6) return limit(z, 0.0f, 6.0f);
  if constexpr (kind == kHardSwish) return z * limit(z + 3.0f, 0.0f, 6.0f) * (1.0f / 6.0f);
  return z;
}

// g times the derivative, which is 0 at the kinks, but for those of hard_swish, where it is that outside.
template <int64_t kind, int Lanes>
inline Floats<Lanes> pull(Floats<Lanes> z, Floats<Lanes> g) {
  if constexpr (kind == kSwish) {
    const auto s = sigmoid<Lanes>(z);
    return g * (s + z * (s - s * s));
  }
  const Floats<Lanes> zero{};
  if constexpr (kind == kRelu) return z > zero ? g : zero;
  if constexpr (kind == kRelu6) return (z > zero) & (z < zero + 6.0f) ? g : zero;
  if constexpr (kind == kHardSwish) {
    const auto inside = g * (z * 2.0f + 3.0f) * (1.0f / 6.0f);
    return z <= zero - 3.0f ? zero : z >= zero + 3.0f ? g : inside;
  }
  return g;
}

template <class Body>
void with_activation(const Call& call, const Body& body) {
  switch (call.attribute("activation")) {
    case kSwish: return body.template operator()<kSwish>();
    case kRelu: return body.template operator()<kRelu>();
    case kRelu6: return body.template operator()<kRelu6>();
    case kHardSwish: return body.template operator()<kHardSwish>();
    default: return body.template operator()<kNone>();
  }
}

}  // namespace scalesearch
