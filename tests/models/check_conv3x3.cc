// Checks the passes of conv3x3.cc, compiled for one instruction set, against plain loops. Needs no JAX:
//
//     g++ -std=c++17 -O3 -ffp-contract=fast -DWING_JAX_SET=avx2 -mavx2 -mfma -I wing_jax/models -pthread
//         wing_jax/models/conv3x3.cc tests/models/check_conv3x3.cc -o check_conv3x3
//     ./check_conv3x3 [millions of multiplications of the largest case]
//
// Every pass must be near the plain loops and must give the same bits on 1, 2, 3 and 7 threads. Cases of small whole
// numbers have no rounding: there the results must be equal, and among the many equal values the first is chosen.
// Prints a line a case; ends with 1 if one failed.

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>

#include "check_threads.h"
#include "cpu_kernel.h"

namespace {

using wing_jax::Int;
using wing_jax::Size;
using Doubles = std::vector<double>;
using Bytes = std::vector<uint8_t>;

constexpr const auto& kPasses = wing_jax::WING_JAX_SET;
constexpr int kDead = 4;            // in `chosen`: no gradient flows
constexpr double kTolerance = 1e-5;  // of the largest value

// ---- plain loops ----------------------------------------------------------------------------------------------------

// Calls add(index into y, into x, into the weights) for every product that y = conv(x, weights) sums.
template <typename Add>
void products(const Size& s, const Add& add) {
  for (Int image = 0; image < s.images; ++image)
    for (Int y = 0; y < s.height; ++y)
      for (Int x = 0; x < s.width; ++x)
        for (Int tap = 0; tap < 9; ++tap) {
          const Int from_y = y + tap / 3 - 1, from_x = x + tap % 3 - 1;
          if (from_y < 0 || from_y >= s.height || from_x < 0 || from_x >= s.width) continue;
          const Int to = (image * s.height + y) * s.width + x, from = (image * s.height + from_y) * s.width + from_x;
          for (Int i = 0; i < s.inputs; ++i)
            for (Int o = 0; o < s.outputs; ++o)
              add(to * s.outputs + o, from * s.inputs + i, (tap * s.inputs + i) * s.outputs + o);
        }
}

Doubles conv(const Size& s, const Floats& x, const Floats& weights) {
  Doubles result(s.images * s.height * s.width * s.outputs);
  products(s, [&](Int y, Int from, Int w) { result[y] += double(x[from]) * weights[w]; });
  return result;
}

Doubles conv_input(const Size& s, const Floats& gradient, const Floats& weights) {
  Doubles result(s.images * s.height * s.width * s.inputs);
  products(s, [&](Int y, Int x, Int w) { result[x] += double(gradient[y]) * weights[w]; });
  return result;
}

Doubles conv_weights(const Size& s, const Floats& x, const Floats& gradient) {
  Doubles result(9 * s.inputs * s.outputs);
  products(s, [&](Int y, Int from, Int w) { result[w] += double(x[from]) * gradient[y]; });
  return result;
}

// Calls visit(index of a pooled value, its output, indices of the four values that it was pooled from).
template <typename Visit>
void windows(const Size& s, const Visit& visit) {
  const Int rows = s.images * s.height / 2, columns = s.width / 2, right = s.outputs, down = s.width * s.outputs;
  for (Int y = 0; y < rows; ++y)
    for (Int x = 0; x < columns; ++x)
      for (Int o = 0; o < s.outputs; ++o) {
        const Int at = (2 * y * s.width + 2 * x) * s.outputs + o;
        const Int four[] = {at, at + right, at + down, at + down + right};
        visit((y * columns + x) * s.outputs + o, o, four);
      }
}

// ---- one case -------------------------------------------------------------------------------------------------------

// What a pass writes: as much as it says, filled with what no pass gives.
struct Result {
  Floats values, bias;
  Bytes chosen;

  explicit Result(Int values, Int bias = 0, Int chosen = 0)
      : values(values, NAN), bias(bias, NAN), chosen(chosen, 255) {}
};

class Case {
 public:
  Case(const Size& s, bool whole, bool relu)
      : s_(s), positions_(s.images * s.height * s.width), whole_(whole), relu_(relu),
        x_(drawn(positions_ * s.inputs, 1)),
        weights_(drawn(9 * s.inputs * s.outputs, 1 / std::sqrt(9.0 * s.inputs))), bias_(drawn(s.outputs, 1 / 3.0)),
        gradient_(drawn(positions_ * s.outputs, 1)) {}

  void plain() {
    kind_ = "plain";
    plain_forward();
    const auto input = repeated("conv_input", Result(x_.size()), [&](const auto& threads, Result& out) {
      kPasses.conv_input(threads, s_, gradient_.data(), weights_.data(), out.values.data());
    });
    near("conv_input", input.values, conv_input(s_, gradient_, weights_));
    const auto weights = repeated("conv_weights", Result(weights_.size()), [&](const auto& threads, Result& out) {
      kPasses.conv_weights(threads, s_, x_.data(), gradient_.data(), out.values.data());
    });
    near("conv_weights", weights.values, conv_weights(s_, x_, gradient_));
  }

  void pooled() {
    kind_ = "pooled";
    const Bytes chosen = pooled_forward();
    Floats gradient(gradient_.size());  // before the pooling, of which only a quarter is drawn
    Doubles bias_gradient(s_.outputs);
    windows(s_, [&](Int at, Int output, const Int* four) {
      if (chosen[at] >= kDead) return;
      gradient[four[chosen[at]]] = gradient_[at];
      bias_gradient[output] += gradient_[at];
    });
    const auto input = repeated("conv_pool_input", Result(x_.size()), [&](const auto& threads, Result& out) {
      kPasses.conv_pool_input(threads, s_, gradient_.data(), chosen.data(), weights_.data(), out.values.data());
    });
    near("conv_pool_input", input.values, conv_input(s_, gradient, weights_));
    const Result sizes(weights_.size(), bias_.size());
    const auto weights = repeated("conv_pool_weights", sizes, [&](const auto& threads, Result& out) {
      kPasses.conv_pool_weights(threads, s_, x_.data(), gradient_.data(), chosen.data(), out.values.data(),
                                out.bias.data());
    });
    near("conv_pool_weights", weights.values, conv_weights(s_, x_, gradient));
    near("the gradient of the bias", weights.bias, bias_gradient);
  }

  // A NaN in the input must reach all that see it, and nothing else. Of some windows only a part sees this one.
  void nan() {
    kind_ = "with a NaN";
    x_[(5 * s_.width + 2) * s_.inputs] = NAN;
    plain_forward();
    pooled_forward();
  }

  // Prints the case; whether it is right.
  bool report() const {
    std::printf("%s %3d x %3d x %3d, %3d -> %3d, %s%s%s: off by %.1e of the largest%s\n",
                faults_.empty() ? "right" : "WRONG", int(s_.images), int(s_.height), int(s_.width), int(s_.inputs),
                int(s_.outputs), kind_, relu_ ? ", ReLU" : "", whole_ ? ", whole numbers" : "", off_, faults_.c_str());
    return faults_.empty();
  }

 private:
  Floats drawn(Int count, double spread) {
    std::normal_distribution<float> normal(0, spread);
    std::uniform_int_distribution<int> whole(-2, 2);
    Floats values(count);
    for (float& value : values) value = whole_ ? whole(random_) : normal(random_);
    return values;
  }

  // Calls the pass with each number of threads.
  template <typename Call>
  Result repeated(const char* pass, const Result& empty, const Call& call) {
    Result first = empty;
    Int threads = 1;
    call(wing_jax::Threads{&threads, run}, first);
    if (whole_) return first;  // any order of the sums gives the same
    for (Int number : {2, 3, 7}) {
      Result other = empty;
      threads = number;
      call(wing_jax::Threads{&threads, run}, other);
      if (!same_bits(first.values, other.values) || !same_bits(first.bias, other.bias) || first.chosen != other.chosen)
        faults_ += std::string("; ") + pass + " depends on the number of threads";
    }
    return first;
  }

  // Unless the values are, up to the tolerance, as expected, notes a fault.
  void near(const char* what, const Floats& found, const Doubles& expected) {
    double largest = 1, off = 0;
    for (double value : expected)
      if (std::abs(value) > largest) largest = std::abs(value);  // not of a NaN
    for (size_t i = 0; i < expected.size(); ++i)
      if (std::isnan(found[i]) != std::isnan(expected[i]))
        off = INFINITY;
      else if (!std::isnan(found[i]))
        off = std::max(off, std::abs(found[i] - expected[i]) / largest);
    off_ = std::max(off_, off);
    if (off > (whole_ ? 0 : kTolerance)) faults_ += std::string("; ") + what + " is wrong";
  }

  void plain_forward() {
    const auto found = repeated("conv", Result(positions_ * s_.outputs), [&](const auto& threads, Result& out) {
      kPasses.conv(threads, s_, x_.data(), weights_.data(), out.values.data());
    });
    near("conv", found.values, conv(s_, x_, weights_));
  }

  // The choice, which the gradients follow. Where rounding may turn the order, the value that was chosen must be near.
  Bytes pooled_forward() {
    const Int size = positions_ / 4 * s_.outputs;
    const auto found = repeated("conv_pool", Result(size, 0, size), [&](const auto& threads, Result& out) {
      kPasses.conv_pool(threads, s_, x_.data(), weights_.data(), bias_.data(), relu_, out.values.data(),
                        out.chosen.data());
    });
    const Doubles y = conv(s_, x_, weights_);
    Doubles largest(size), taken(size);
    Bytes first(size);
    windows(s_, [&](Int at, Int output, const Int* four) {
      Int best = 0;
      for (Int p = 1; p < 4; ++p)
        if (y[four[p]] > y[four[best]] || std::isnan(y[four[p]])) best = p;
      const double value = y[four[best]] + bias_[output];
      largest[at] = relu_ && value <= 0 ? 0 : value;
      first[at] = relu_ && !(value > 0) ? kDead : best;
      const int chosen = found.chosen[at];
      taken[at] = chosen < kDead ? y[four[chosen]] + bias_[output] : std::isnan(value) ? value : 0;
    });
    near("conv_pool", found.values, largest);
    near("conv_pool's choice", found.values, taken);
    if (whole_ && found.chosen != first) faults_ += "; conv_pool's choice is not the first of equals";
    return found.chosen;
  }

  Size s_;
  Int positions_;
  bool whole_, relu_;
  std::mt19937 random_{0};
  Floats x_, weights_, bias_, gradient_;
  const char* kind_ = "";
  std::string faults_;
  double off_ = 0;
};

// Images, height, width, inputs, outputs.
constexpr Size kLayers[] = {  // of CNN-6 and CNN-7
    {1, 64, 64, 3, 32},   {2, 32, 32, 32, 64}, {1, 16, 16, 64, 128},  {1, 8, 8, 128, 256}, {2, 4, 4, 256, 512},
    {1, 128, 128, 3, 64}, {1, 64, 64, 64, 64}, {1, 16, 16, 128, 256}, {1, 8, 8, 256, 512}, {1, 4, 4, 512, 512},
};
constexpr Size kEven[] = {  // channels that fill no register, images that share a tile, many outputs, no image
    {1, 2, 2, 1, 1},    {5, 6, 6, 4, 8},    {2, 4, 4, 5, 17}, {3, 4, 4, 20, 40},  {33, 4, 4, 16, 16},
    {70, 2, 2, 12, 33}, {2, 2, 14, 3, 9}, {1, 10, 2, 18, 5}, {1, 4, 2, 5, 520}, {0, 4, 4, 3, 5},
};
constexpr Size kOdd[] = {
    {1, 1, 1, 1, 1},  {3, 1, 1, 20, 33}, {2, 2, 2, 7, 16},  {2, 3, 5, 3, 8}, {5, 7, 4, 17, 33}, {3, 9, 1, 4, 40},
    {2, 1, 9, 16, 3}, {40, 3, 3, 6, 12}, {2, 16, 16, 64, 64}, {5, 9, 7, 20, 40},
};

}  // namespace

int main(int count, char** arguments) {
  std::setvbuf(stdout, nullptr, _IOLBF, 0);  // should a case crash, the one before it is seen
  const double most = count > 1 ? 1e6 * std::atof(arguments[1]) : INFINITY;
  bool right = true;
  const auto check = [&](const Size& s, bool whole, void (Case::*what)(), bool relu) {
    if (9.0 * s.images * s.height * s.width * s.inputs * s.outputs > most) return;
    Case one(s, whole, relu);
    (one.*what)();
    right &= one.report();
  };
  for (const bool relu : {false, true}) {
    for (const Size& s : kLayers) check(s, false, &Case::pooled, relu);
    for (const Size& s : kEven)
      for (const bool whole : {false, true}) check(s, whole, &Case::pooled, relu);
    check({2, 8, 8, 3, 20}, false, &Case::nan, relu);
  }
  for (const bool whole : {false, true}) {
    for (const Size& s : kEven) check(s, whole, &Case::plain, false);
    for (const Size& s : kOdd) check(s, whole, &Case::plain, false);
  }
  return right ? 0 : 1;
}
