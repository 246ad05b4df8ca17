// Batch normalisation with its activation, on maps seen as rows of channels: y = f(z), z = (x − μ) · gain + bias, with
// gain = scale / √(v + ε); its gradient; and the same with given statistics, for evaluation.
//
// Channels are few and of any number, so loops run over a period of whole rows that fills vectors. Nothing is kept from
// forward to backward but x and the statistics.

#include "activations.h"

namespace scalesearch {
namespace {

// body<Lanes>(place) for all `floats` places, Lanes at a time.
template <class Body>
inline void vectors(int64_t floats, const Body& body) {
  int64_t j = 0;
  for (; j + kLanes <= floats; j += kLanes) body.template operator()<kLanes>(j);
  for (; j < floats; ++j) body.template operator()<1>(j);
}

// Maps as rows of channels, cut into parts of whole periods; all of it follows from the shape alone.
struct Rows {
  explicit Rows(const Call& call)
      : channels(call.in_dim(0, 3)), count(call.in_dim(0, 0) * call.in_dim(0, 1) * call.in_dim(0, 2)) {
    int64_t together = 1;
    while (together * channels < 512 || (together < 16 && together * channels % 16 != 0)) together *= 2;
    period = together * channels;
    periods = (count + together - 1) / together;
    parts = std::clamp<int64_t>(count * channels / 32768, 1, std::min<int64_t>(64, periods));
  }
  int64_t channels, count, period, periods, parts;

  // body(first float, floats) for each period of part `i`; the last period of all may be cut short.
  template <class Body>
  void each(int64_t i, const Body& body) const {
    const Range range(periods, parts, i);
    for (int64_t at = range.first; at < range.last; ++at)
      body(at * period, std::min(period, count * channels - at * period));
  }
  // One value a channel, repeated for a period.
  template <class Value>
  std::vector<float> spread(const Value& value) const {
    std::vector<float> result(period);
    for (int64_t j = 0; j < period; ++j) result[j] = j < channels ? value(j) : result[j - channels];
    return result;
  }
};

// Two sums a channel over all rows. `add(first, floats, sums a, sums b)` adds a period; parts are added in their order.
template <class Add>
std::pair<std::vector<double>, std::vector<double>> two_sums(const Call& call, const Rows& rows, const Add& add) {
  std::vector<double> of_parts(rows.parts * 2 * rows.channels);
  call.parallel(rows.parts, [&](int64_t part) {
    std::vector<float> sums(2 * rows.period);
    rows.each(part, [&](int64_t first, int64_t floats) { add(first, floats, sums.data(), sums.data() + rows.period); });
    double* to = &of_parts[part * 2 * rows.channels];
    for (int64_t k = 0; k < 2; ++k)
      for (int64_t j = 0; j < rows.period; ++j) to[k * rows.channels + j % rows.channels] += sums[k * rows.period + j];
  });
  std::vector<double> a(rows.channels), b(rows.channels);
  for (int64_t part = 0; part < rows.parts; ++part)
    for (int64_t c = 0; c < rows.channels; ++c) {
      a[c] += of_parts[part * 2 * rows.channels + c];
      b[c] += of_parts[(part * 2 + 1) * rows.channels + c];
    }
  return {std::move(a), std::move(b)};
}

float epsilon(const Call& call) { return static_cast<float>(call.attribute("epsilon_millionths") * 1e-6); }

// What a channel is multiplied by, and its neighbours, repeated for a period.
struct Affine {
  Affine(const Call& call, const Rows& rows, const float* mean, const float* variance) {
    const float *scale = call.in(1), *bias = call.in(2), eps = epsilon(call);
    means = rows.spread([&](int64_t c) { return mean[c]; });
    gains = rows.spread([&](int64_t c) { return scale[c] / std::sqrt(variance[c] + eps); });
    biases = rows.spread([&](int64_t c) { return bias[c]; });
  }
  std::vector<float> means, gains, biases;
};

void apply(const Call& call, const Rows& rows, const Affine& affine) {
  const float *x = call.in(0), *mean = affine.means.data(), *gain = affine.gains.data(), *bias = affine.biases.data();
  float* y = call.out(0);
  with_activation(call, [&]<int64_t kind>() {
    call.parallel(rows.parts, [=, &rows](int64_t part) {
      rows.each(part, [=](int64_t first, int64_t floats) {
        vectors(floats, [=]<int Lanes>(int64_t j) {
          using V = Vector<Lanes>;
          const auto z = (V::load(x + first + j) - V::load(mean + j)) * V::load(gain + j) + V::load(bias + j);
          V::store(y + first + j, activate<kind, Lanes>(z));
        });
      });
    });
  });
}

// (x, scale, bias) → (y, mean, biased variance)
void forward(const Call& call) {
  const Rows rows(call);
  const float* x = call.in(0);
  float *mean = call.out(1), *variance = call.out(2);
  // Sums of differences from the first row: a mean far larger than the spread costs no digits.
  const std::vector<float> pilot = rows.spread([&](int64_t c) { return x[c]; });
  const auto [sums, squares] = two_sums(call, rows, [&](int64_t first, int64_t floats, float* a, float* b) {
    vectors(floats, [=, from = x + first, first_row = pilot.data()]<int Lanes>(int64_t j) {
      using V = Vector<Lanes>;
      const auto difference = V::load(from + j) - V::load(first_row + j);
      V::store(a + j, V::load(a + j) + difference);
      V::store(b + j, V::load(b + j) + difference * difference);
    });
  });
  for (int64_t c = 0; c < rows.channels; ++c) {
    const double shift = sums[c] / rows.count, square = squares[c] / rows.count - shift * shift;
    mean[c] = static_cast<float>(x[c] + shift);
    variance[c] = static_cast<float>(square < 0 ? 0 : square);  // NaN stays NaN
  }
  apply(call, rows, Affine(call, rows, mean, variance));
}

// (x, scale, bias, mean, variance) → y, by the statistics that are given
void evaluate(const Call& call) {
  const Rows rows(call);
  apply(call, rows, Affine(call, rows, call.in(3), call.in(4)));
}

// (x, scale, bias, mean, variance, g) → (dx, dscale, dbias). With dz = g · f′(z), δ = x − μ and n rows:
// dx = gain · (dz − Σdz / n − δ · Σ(dz · δ) / (n · (v + ε))).
void backward(const Call& call) {
  const Rows rows(call);
  const float *x = call.in(0), *variance = call.in(4), *g = call.in(5), eps = epsilon(call);
  float *dx = call.out(0), *dscale = call.out(1), *dbias = call.out(2);
  const Affine affine(call, rows, call.in(3), variance);
  const float *mean = affine.means.data(), *gain = affine.gains.data(), *bias = affine.biases.data();
  with_activation(call, [&]<int64_t kind>() {
    const auto totals = two_sums(call, rows, [=](int64_t first, int64_t floats, float* a, float* b) {
      vectors(floats, [=]<int Lanes>(int64_t j) {
        using V = Vector<Lanes>;
        const auto difference = V::load(x + first + j) - V::load(mean + j);
        const auto z = difference * V::load(gain + j) + V::load(bias + j);
        const auto dz = pull<kind, Lanes>(z, V::load(g + first + j));
        if constexpr (kind != kNone) V::store(dx + first + j, dz);  // an exponential costs more than a store
        V::store(a + j, V::load(a + j) + dz);
        V::store(b + j, V::load(b + j) + dz * difference);
      });
    });
    const auto &sums = totals.first, &products = totals.second;
    for (int64_t c = 0; c < rows.channels; ++c) {
      dbias[c] = static_cast<float>(sums[c]);
      dscale[c] = static_cast<float>(products[c] / std::sqrt(variance[c] + eps));
    }
    const double n = static_cast<double>(rows.count);
    const auto shifts = rows.spread([&](int64_t c) { return static_cast<float>(sums[c] / n); });
    const auto leans =
        rows.spread([&](int64_t c) { return static_cast<float>(products[c] / (n * (variance[c] + eps))); });
    const float *shift = shifts.data(), *lean = leans.data(), *slopes = kind == kNone ? g : dx;
    call.parallel(rows.parts, [=, &rows](int64_t part) {
      rows.each(part, [=](int64_t first, int64_t floats) {
        vectors(floats, [=]<int Lanes>(int64_t j) {
          using V = Vector<Lanes>;
          const auto difference = V::load(x + first + j) - V::load(mean + j), dz = V::load(slopes + first + j);
          V::store(dx + first + j, V::load(gain + j) * (dz - V::load(shift + j) - difference * V::load(lean + j)));
        });
      });
    });
  });
}

}  // namespace
}  // namespace scalesearch

SCALESEARCH_KERNEL(scalesearch_normalise, scalesearch::forward)
SCALESEARCH_KERNEL(scalesearch_normalise_gradient, scalesearch::backward)
SCALESEARCH_KERNEL(scalesearch_normalise_evaluate, scalesearch::evaluate)
