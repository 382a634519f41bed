// Checks the passes of depthwise.cc, compiled for one instruction set, against plain loops. Needs no JAX:
//
//     g++ -std=c++17 -O3 -ffp-contract=fast -DWING_JAX_SET=avx2 -mavx2 -mfma -I wing_jax/models -pthread
//         wing_jax/models/depthwise.cc tests/models/check_depthwise.cc -o check_depthwise
//     ./check_depthwise [millions of multiplications of the largest case]
//
// Every pass must be near the plain loops and must give the same bits on 1, 2, 3 and 7 threads. Prints a line a case;
// ends with 1 if one failed.

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>

#include "check_threads.h"
#include "cpu_kernel.h"

namespace {

using wing_jax::Int;
using wing_jax::depthwise::Size;
using Doubles = std::vector<double>;

constexpr const auto& kPasses = wing_jax::depthwise::WING_JAX_SET;
constexpr double kTolerance = 1e-5;  // of the largest value

// Calls add(index into y, into x, into the weights) for every product that y = conv(x, weights) sums.
template <typename Add>
void products(const Size& s, const Add& add) {
  for (Int image = 0; image < s.images; ++image)
    for (Int row = 0; row < s.rows; ++row)
      for (Int column = 0; column < s.columns; ++column)
        for (Int tap = 0; tap < s.side * s.side; ++tap) {
          const Int y = row * s.stride - s.top + tap / s.side, x = column * s.stride - s.left + tap % s.side;
          if (y < 0 || y >= s.height || x < 0 || x >= s.width) continue;
          const Int to = (image * s.rows + row) * s.columns + column, from = (image * s.height + y) * s.width + x;
          for (Int c = 0; c < s.channels; ++c)
            add(to * s.channels + c, from * s.channels + c, tap * s.channels + c);
        }
}

// Unless the values are, up to the tolerance, as expected on any number of threads, appends a fault.
template <typename Call>
void compare(const char* pass, const Doubles& expected, const Call& call, std::string& faults) {
  Floats first(expected.size(), NAN);
  Int threads = 1;
  call(wing_jax::Threads{&threads, run}, first.data());
  double largest = 1;
  for (double value : expected)
    if (std::abs(value) > largest) largest = std::abs(value);  // not of a NaN
  bool right = true;
  for (size_t i = 0; i < expected.size(); ++i)
    right &= std::isnan(expected[i]) ? std::isnan(first[i]) : std::abs(first[i] - expected[i]) <= kTolerance * largest;
  if (!right) faults += std::string("; ") + pass + " is wrong";
  for (Int number : {2, 3, 7}) {
    Floats other(expected.size(), NAN);
    threads = number;
    call(wing_jax::Threads{&threads, run}, other.data());
    if (!same_bits(first, other)) faults += std::string("; ") + pass + " depends on the number of threads";
  }
}

bool check(const Size& s, bool nan) {
  std::mt19937 random(0);
  const auto drawn = [&](Int count) {
    std::normal_distribution<float> normal;
    Floats values(count);
    for (float& value : values) value = normal(random);
    return values;
  };
  Floats x = drawn(s.images * s.height * s.width * s.channels);
  const Floats weights = drawn(s.side * s.side * s.channels);
  const Floats gradient = drawn(s.images * s.rows * s.columns * s.channels);
  if (nan) x[x.size() / 2] = NAN;  // it must reach all that see it, and nothing else
  Doubles y(gradient.size()), input(x.size()), kernel(weights.size());
  products(s, [&](Int to, Int from, Int w) {
    y[to] += double(x[from]) * weights[w];
    input[from] += double(gradient[to]) * weights[w];
    kernel[w] += double(gradient[to]) * x[from];
  });
  std::string faults;
  const auto forward = [&](const auto& threads, float* out) {
    kPasses.conv(threads, s, x.data(), weights.data(), out);
  };
  const auto backward = [&](const auto& threads, float* out) {
    kPasses.conv_input(threads, s, gradient.data(), weights.data(), out);
  };
  const auto sums = [&](const auto& threads, float* out) {
    kPasses.conv_weights(threads, s, x.data(), gradient.data(), out);
  };
  compare("conv", y, forward, faults);
  compare("conv_input", input, backward, faults);
  compare("conv_weights", kernel, sums, faults);
  std::printf("%s %d x %d x %d, %d channels, kernel %d, stride %d, padding %d and %d%s%s\n",
              faults.empty() ? "right" : "WRONG", int(s.images), int(s.height), int(s.width), int(s.channels),
              int(s.side), int(s.stride), int(s.top), int(s.left), nan ? ", with a NaN" : "", faults.c_str());
  return faults.empty();
}

// Images, height, width, channels.
constexpr Int kImages[][4] = {
    {2, 32, 32, 96}, {2, 14, 14, 144}, {3, 7, 7, 240}, {9, 4, 4, 32}, {70, 2, 2, 16},  // of networks
    {1, 1, 1, 1},    {2, 1, 6, 17},    {1, 6, 1, 5},   {2, 5, 7, 40}, {5, 9, 8, 3},   {0, 4, 4, 16},
};

}  // namespace

int main(int count, char** arguments) {
  std::setvbuf(stdout, nullptr, _IOLBF, 0);  // should a case crash, the one before it is seen
  const double most = count > 1 ? 1e6 * std::atof(arguments[1]) : INFINITY;
  bool right = true;
  for (const auto& [images, height, width, channels] : kImages)
    for (const Int side : {3, 5})
      for (const Int stride : {1, 2, 3})
        for (const Int before : {Int{0}, side / 2, side - 1}) {
          const Int after = side / 2;  // more than "before" of 0, as with the padding "SAME" of even sizes
          const Int rows = (height + before + after - side) / stride + 1;
          const Int columns = (width + before + after - side) / stride + 1;
          if (height + before + after < side || width + before + after < side) continue;
          const Size s = {images, height, width, channels, rows, columns, side, stride, before, before};
          if (double(side * side) * images * rows * columns * channels > most) continue;
          right &= check(s, false);
          if (images == 2) right &= check(s, true);
        }
  return right ? 0 : 1;
}
