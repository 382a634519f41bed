// Depthwise convolution in float32, each channel with its own kernel of 3 x 3 or 5 x 5, and its gradients.
//
// Compiled once for each instruction set, as conv3x3.cc. Arrays are NHWC, kernels [row][column][channel]. A register
// holds the same position of neighboring channels, so a tap of the kernel is one product of registers.
//
// The division of the work depends only on the shape. Each part writes its own outputs and sums in a fixed order, so
// results do not depend on the number of threads or their timing.

#include "cpu_kernel_parts.h"
#include "cpu_kernel_vectors.h"

#include <type_traits>

namespace wing_jax::depthwise {
namespace {

constexpr Int kGroups = 64;  // largest number of parts whose sums the weights' gradient adds

// Returns the first multiple of `stride` from which on a kernel that starts `before` earlier is within the input.
Int first_inside(Int before, Int stride) { return ceil_div(before, stride); }

// Returns the end of the outputs, of `count`, whose kernel ends within the `size` inputs.
Int end_inside(Int before, Int stride, Int side, Int size, Int count) {
  const Int room = size + before - side;
  return room < 0 ? 0 : min(count, room / stride + 1);
}

// The input rows that an output row depends on; rows outside the image are zeros.
template <Int side>
struct Rows {
  const float* at[side];

  Rows(const Size& s, const float* image, const float* zeros, Int row) {
    for (Int i = 0; i < side; ++i) {
      const Int from = row * s.stride - s.top + i;
      at[i] = from < 0 || from >= s.height ? zeros : image + from * s.width * s.channels;
    }
  }
};

// Calls visit(tap, register of inputs) for each tap of the output at `column` that is within the input. `whole`: all
// taps are, and so are the `kLanes` channels from `channel` on; else the `count` channels are.
template <Int side, bool whole, typename Visit>
inline void over_taps(const Size& s, const Rows<side>& rows, Int column, Int channel, Int count, const Visit& visit) {
  const Int from = column * s.stride - s.left;
#pragma GCC unroll 5
  for (Int i = 0; i < side; ++i)
#pragma GCC unroll 5
    for (Int j = 0; j < side; ++j) {
      if constexpr (whole) {
        visit(i * side + j, load_loose(rows.at[i] + (from + j) * s.channels + channel));
      } else if (from + j >= 0 && from + j < s.width) {
        visit(i * side + j, load_first(rows.at[i] + (from + j) * s.channels + channel, count));
      }
    }
}

// Calls body<whole>(column) for all output columns, where `whole` is as above.
template <Int side, typename Body>
inline void over_columns(const Size& s, Int count, const Body& body) {
  const Int end = count < kLanes ? 0 : end_inside(s.left, s.stride, side, s.width, s.columns);
  const Int begin = min(first_inside(s.left, s.stride), max(end, 0));
  for (Int x = 0; x < begin; ++x) body(x, std::false_type());
  for (Int x = begin; x < end; ++x) body(x, std::true_type());
  for (Int x = max(begin, end); x < s.columns; ++x) body(x, std::false_type());
}

// Calls body(image, first row, end of the rows) for all parts of `rows` rows of each image.
template <typename Body>
void over_strips(const Threads& threads, Int images, Int rows, const Body& body) {
  const Int strips = max(1, min(rows, ceil_div(kParts, max(1, images))));
  parallel(threads, images * strips, [&](Int part) {
    const Int strip = part % strips;
    body(part / strips, rows * strip / strips, rows * (strip + 1) / strips);
  });
}

const float* zero_row(const Size& s) {
  float* zeros = scratch<0>(s.width * s.channels);
  std::memset(zeros, 0, s.width * s.channels * sizeof(float));
  return zeros;
}

template <Int side>
void conv_sides(const Threads& threads, const Size& s, const float* x, const float* weights, float* y) {
  over_strips(threads, s.images, s.rows, [&](Int image, Int first, Int end) {
    const float* zeros = zero_row(s);
    for (Int row = first; row < end; ++row) {
      const Rows<side> rows(s, x + image * s.height * s.width * s.channels, zeros, row);
      float* out = y + (image * s.rows + row) * s.columns * s.channels;
      for (Int channel = 0; channel < s.channels; channel += kLanes) {
        const Int count = min(kLanes, s.channels - channel);
        Vector weight[side * side];
        for (Int tap = 0; tap < side * side; ++tap)
          weight[tap] = load_first(weights + tap * s.channels + channel, count);
        over_columns<side>(s, count, [&](Int column, auto whole) {
          Vector sum = {};
          over_taps<side, decltype(whole)::value>(s, rows, column, channel, count,
                                                  [&](Int tap, Vector value) { sum += weight[tap] * value; });
          store_first(out + column * s.channels + channel, count, sum);
        });
      }
    }
  });
}

template <Int side>
void weights_sides(const Threads& threads, const Size& s, const float* x, const float* gradient, float* result) {
  const Int groups = max(1, min(s.images, kGroups)), taps = side * side, size = taps * s.channels;
  float* sums = scratch<1>(groups * size);
  parallel(threads, groups, [&](Int group) {
    const float* zeros = zero_row(s);
    float* total = sums + group * size;
    std::memset(total, 0, size * sizeof(float));
    for (Int image = s.images * group / groups; image < s.images * (group + 1) / groups; ++image)
      for (Int row = 0; row < s.rows; ++row) {
        const Rows<side> rows(s, x + image * s.height * s.width * s.channels, zeros, row);
        const float* in = gradient + (image * s.rows + row) * s.columns * s.channels;
        for (Int channel = 0; channel < s.channels; channel += kLanes) {
          const Int count = min(kLanes, s.channels - channel);
          Vector sum[taps];
          for (Int tap = 0; tap < taps; ++tap) sum[tap] = load_first(total + tap * s.channels + channel, count);
          over_columns<side>(s, count, [&](Int column, auto whole) {
            const Vector slope = load_first(in + column * s.channels + channel, count);
            over_taps<side, decltype(whole)::value>(s, rows, column, channel, count,
                                                    [&](Int tap, Vector value) { sum[tap] += slope * value; });
          });
          for (Int tap = 0; tap < taps; ++tap) store_first(total + tap * s.channels + channel, count, sum[tap]);
        }
      }
  });
  for (Int i = 0; i < size; ++i) {
    float sum = 0;
    for (Int group = 0; group < groups; ++group) sum += sums[group * size + i];
    result[i] = sum;
  }
}

// With a stride, an input depends on the kernel's rows and columns of one remainder only.
void strided_input(const Threads& threads, const Size& s, const float* gradient, const float* weights, float* result) {
  over_strips(threads, s.images, s.height, [&](Int image, Int first, Int end) {
    for (Int row = first; row < end; ++row)
      for (Int column = 0; column < s.width; ++column) {
        float* out = result + ((image * s.height + row) * s.width + column) * s.channels;
        for (Int channel = 0; channel < s.channels; channel += kLanes) {
          const Int count = min(kLanes, s.channels - channel);
          Vector sum = {};
          for (Int i = (row + s.top) % s.stride; i < s.side; i += s.stride) {
            const Int y = (row + s.top - i) / s.stride;
            if (row + s.top < i || y >= s.rows) continue;
            for (Int j = (column + s.left) % s.stride; j < s.side; j += s.stride) {
              const Int x = (column + s.left - j) / s.stride;
              if (column + s.left < j || x >= s.columns) continue;
              const float* in = gradient + ((image * s.rows + y) * s.columns + x) * s.channels + channel;
              sum += load_first(in, count) * load_first(weights + (i * s.side + j) * s.channels + channel, count);
            }
          }
          store_first(out + channel, count, sum);
        }
      }
  });
}

void conv(const Threads& threads, const Size& s, const float* x, const float* weights, float* y) {
  (s.side == 3 ? conv_sides<3> : conv_sides<5>)(threads, s, x, weights, y);
}

void conv_input(const Threads& threads, const Size& s, const float* gradient, const float* weights, float* result) {
  if (s.stride > 1) return strided_input(threads, s, gradient, weights, result);
  // The convolution of the gradient with the kernel rotated by 180 degrees.
  const Int taps = s.side * s.side;
  float* rotated = scratch<1>(taps * s.channels);
  for (Int tap = 0; tap < taps; ++tap)
    std::memcpy(rotated + (taps - 1 - tap) * s.channels, weights + tap * s.channels, s.channels * sizeof(float));
  const Int top = s.side - 1 - s.top, left = s.side - 1 - s.left;
  const Size back = {s.images, s.rows, s.columns, s.channels, s.height, s.width, s.side, 1, top, left};
  conv(threads, back, gradient, rotated, result);
}

void conv_weights(const Threads& threads, const Size& s, const float* x, const float* gradient, float* result) {
  (s.side == 3 ? weights_sides<3> : weights_sides<5>)(threads, s, x, gradient, result);
}

}  // namespace

extern const Passes WING_JAX_SET = {conv, conv_input, conv_weights};

}  // namespace wing_jax::depthwise
