// 3 x 3 same convolution in bfloat16, alone or with 2 x 2 max-pool, bias and ReLU, and its gradients, by Intel's AMX:
// products in bfloat16, sums in float32. Images and their gradients are bfloat16; weights, bias and theirs float32.
//
// Images are stored in one line of positions: a zero follows each row of an image, and a row of zeros each image. A tap
// of the kernel is then a shift along the line, and every pass is a matrix product without border cases:
//   forward         y[p, o] = sum over taps and i  x[p + tap, i] w[tap, i, o]
//   input gradient  the same, of y's gradient, with the kernel rotated by 180 degrees
//   weights         dw[tap, i, o] = sum over p  x[p + tap, i] dy[p, o]
// Pooled gradients are expanded with zeros: with AMX, multiplying zeros is faster than skipping them.
//
// Rows and columns of a product beyond the real ones may have any value, because their sums are not used. But in padded
// terms of used sums, one factor must be 0 and the other finite.
//
// The division of the work depends only on the shape. Each part writes its own outputs and sums in a fixed order, so
// results do not depend on the number of threads or their timing.

#include <cstring>

#include "conv3x3_amx.h"
#include "cpu_kernel_parts.h"

namespace wing_jax {
namespace {

constexpr Int kNear = 48 << 10, kFar = 256 << 10;  // bytes of a part's arrays: in the L1 cache, in the L2 cache

// The division of the images into parts: `images` complete images, or strips of `rows` rows of one.
struct Cut {
  Int images, rows, strips, count;

  Cut(const Size& s, Int unit, Int positions) {  // strips of complete units of rows, ideally of `positions`
    const Int fitting = positions / (s.width + 1), units = s.height / unit;
    strips = max(ceil_div(units, max(1, fitting / unit)), min(units, ceil_div(kParts, max(1, s.images))));
    rows = ceil_div(units, strips) * unit;
    strips = ceil_div(s.height, rows);
    images = strips > 1 ? 1 : max(1, min(s.images, fitting / (s.height + 1)));
    count = ceil_div(s.images, images) * strips;
  }
};

// A part as a line: position (image, row, column) is (image * (rows + 1) + row) * pitch + column. In memory it starts a
// row and a position earlier, so that a position is the address of the kernel's first tap, and ends with zeros.
struct Line {
  Int image, images, row, rows, pitch, real, positions, size;

  Line(const Size& s, const Cut& cut, Int index) {
    image = index / cut.strips * cut.images;
    images = min(cut.images, s.images - image);
    row = index % cut.strips * cut.rows;
    rows = min(cut.rows, s.height - row);
    pitch = s.width + 1;
    real = (images * (rows + 1) - 1) * pitch;
    positions = ceil_div(real, kStep) * kStep;
    size = positions + 2 * pitch + 2 + kStep;
  }

  // `row_of(image, row, out)` writes the values of a row, `channels` for each position.
  template <typename Row>
  void fill(const Size& s, Int channels, const Row& row_of, Half* out) const {
    Half* const end = out + size * channels;
    std::memset(out, 0, channels * sizeof(Half));
    out += channels;
    for (Int i = 0; i < images; ++i)
      for (Int y = row - (i == 0); y <= row + rows; ++y, out += pitch * channels) {
        const Int written = y >= 0 && y < s.height ? s.width * channels : 0;
        if (written) row_of(image + i, y, out);
        std::memset(out + written, 0, (pitch * channels - written) * sizeof(Half));
      }
    std::memset(out, 0, (end - out) * sizeof(Half));
  }
};

// Rows for `Line::fill`: of `channels` channels of an array, `count` of them from the one at `x` ...
auto plain_rows(const Size& s, const Half* x, Int channels, Int count) {
  return [=](Int image, Int y, Half* out) {
    const Half* in = x + (image * s.height + y) * s.width * channels;
    if (count == channels)
      std::memcpy(out, in, s.width * channels * sizeof(Half));
    else
      for (Int i = 0; i < s.width; ++i) std::memcpy(out + i * count, in + i * channels, count * sizeof(Half));
  };
}

// ... and of a pooled gradient, `count` of its channels, at the positions that it flows to.
auto spread_rows(const Size& s, const Half* gradient, const uint8_t* chosen, Int channels, Int count) {
  return [=](Int image, Int y, Half* out) {
    const Int cells = s.width / 2, first = (image * s.height + y) / 2 * cells;
    const Half left = y % 2 * 2, right = left + 1;
    for (Int cell = first; cell < first + cells; ++cell, out += 2 * count)
      for (Int o = 0; o < count; o += kTile) {
        const Halves value = load<Halves>(gradient + cell * channels + o, count - o);
        const Halves where = __builtin_convertvector(load<Small>(chosen + cell * channels + o, count - o), Halves);
        store(out + o, where == left ? value : Halves{}, count - o);
        store(out + count + o, where == right ? value : Halves{}, count - o);
      }
  };
}

// ---- forward, and gradient of the input -----------------------------------------------------------------------------

// Calls done(line, first output, sums) for every part and 32 outputs: sums as [position][32]. `pack(first of 16
// outputs, row of the kernel, out)` writes their weights as [pairs of column and input][output], 32 apart, zeros in the
// end.
template <typename Rows, typename Pack, typename Done>
void convolve(const Threads& threads, const Size& s, Int unit, const Rows& rows, const Pack& pack, const Done& done) {
  const Int groups = ceil_div(s.outputs, kStep), steps = ceil_div(3 * s.inputs, kStep);
  const Int kernel_row = steps * kTile * kStep, slab = 3 * kernel_row;
  Word* packed = scratch<0, Word>(groups * slab);
  parallel(threads, groups * 6, [&](Int part) {
    const Int group = part / 6, row = part % 6 / 2, half = part % 2 * kTile;
    pack(group * kStep + half, row, packed + group * slab + row * kernel_row + half);
  });
  const Cut cut(s, unit, kFar / (s.inputs * sizeof(Half) + kStep * sizeof(float)));
  const Int splits = min(groups, ceil_div(kParts, max(1, cut.count)));
  parallel(threads, cut.count * splits, [&](Int part) {
    const Line line(s, cut, part / splits);
    const Int split = part % splits;
    Half* x = scratch<1, Half>(line.size * s.inputs);
    float* sums = scratch<2>(line.positions * kStep);
    line.fill(s, s.inputs, rows, x);
    const Tiles tiles;
    for (Int g = groups * split / splits; g < groups * (split + 1) / splits; ++g) {
      for (Int p = 0; p < line.positions; p += kStep) {
        const Word* w = packed + g * slab;
        zero_sums();
        for (Int row = 0; row < 3; ++row)
          for (Int step = 0; step < steps; ++step, w += kTile * kStep)
            add_products(x + (p + row * line.pitch) * s.inputs + step * kStep, s.inputs, w, kStep);
        store_sums(sums + p * kStep, kStep);
      }
      done(line, g * kStep, sums);
    }
  });
}

auto pack_forward(const Size& s, const float* weights) {
  return [=](Int from, Int row, Word* out) {
    const Int length = 3 * s.inputs;
    const float* in = weights + row * length * s.outputs + from;
    const auto values = [&](Int k) {
      return narrow(load<Vector>(in + k * s.outputs, k < length ? s.outputs - from : 0));
    };
    for (Int k = 0; k < ceil_div(length, kStep) * kStep; k += 2, out += kStep)
      store(out, join(values(k), values(k + 1)));
  };
}

// Packs the kernel rotated by 180 degrees, from outputs to inputs; `s` is the size with inputs and outputs swapped.
auto pack_turned(const Size& s, const float* weights) {
  return [=](Int from, Int row, Word* out) {
    const Int length = ceil_div(3 * s.inputs, kStep) * kStep;
    Half* rows = scratch<1, Half>(kTile * length);
    std::memset(rows, 0, kTile * length * sizeof(Half));
    for (Int o = 0; o < min(kTile, s.outputs - from); ++o)
      for (Int column = 0; column < 3; ++column) {
        const float* in = weights + ((8 - 3 * row - column) * s.outputs + from + o) * s.inputs;
        for (Int i = 0; i < s.inputs; i += kTile)
          store(rows + o * length + column * s.inputs + i, narrow(load<Vector>(in + i, s.inputs - i)), s.inputs - i);
      }
    for (Int k = 0; k < length; k += kStep) transpose(rows + k, length / 2, out + k / 2 * kStep, kStep);
  };
}

// Computes 16 pooled outputs from the sums of a cell's four positions.
inline void pool(const float* sums, Int down, Vector bias, bool relu, Int count, Half* out, uint8_t* chosen) {
  Vector best = load<Vector>(sums);
  Words which = {};
  for (Word p = 1; p < 4; ++p) {
    const Vector value = load<Vector>(sums + p % 2 * kStep + p / 2 * down);
    const auto better = (value > best) | (value != value);  // NaN counts as the largest, so that it is not lost
    best = better ? value : best;
    which = better ? p - Words{} : which;
  }
  best += bias;
  if (relu) {
    which = best > 0 ? which : kDead - Words{};
    best = best <= 0 ? Vector{} : best;
  }
  store(out, narrow(best), count);
  store(chosen, __builtin_convertvector(which, Small), count);
}

void conv_pool(const Threads& threads, const Size& s, const Half* x, const float* weights, const float* bias, bool relu,
               Half* pooled, uint8_t* chosen) {
  const auto done = [&](const Line& line, Int from, const float* sums) {
    for (Int o = from; o < min(from + kStep, s.outputs); o += kTile) {
      const Vector shift = load<Vector>(bias + o, s.outputs - o);
      for (Int i = 0; i < line.images; ++i)
        for (Int y = 0; y < line.rows; y += 2) {
          const float* in = sums + (i * (line.rows + 1) + y) * line.pitch * kStep + o - from;
          Int at = ((line.image + i) * s.height + line.row + y) / 2 * (s.width / 2) * s.outputs + o;
          for (Int x = 0; x < s.width; x += 2, at += s.outputs, in += 2 * kStep)
            pool(in, line.pitch * kStep, shift, relu, s.outputs - o, pooled + at, chosen + at);
        }
    }
  };
  convolve(threads, s, 2, plain_rows(s, x, s.inputs, s.inputs), pack_forward(s, weights), done);
}

template <typename Rows, typename Pack>
void plain_conv(const Threads& threads, const Size& s, const Rows& rows, const Pack& pack, Half* y) {
  convolve(threads, s, 1, rows, pack, [&](const Line& line, Int from, const float* sums) {
    for (Int i = 0; i < line.images; ++i)
      for (Int row = 0; row < line.rows; ++row) {
        const float* in = sums + (i * (line.rows + 1) + row) * line.pitch * kStep;
        Half* out = y + ((line.image + i) * s.height + line.row + row) * s.width * s.outputs;
        for (Int x = 0; x < s.width; ++x, in += kStep, out += s.outputs)
          for (Int o = from; o < min(from + kStep, s.outputs); o += kTile)
            store(out + o, narrow(load<Vector>(in + o - from)), s.outputs - o);
      }
  });
}

void conv(const Threads& threads, const Size& s, const Half* x, const float* weights, Half* y) {
  plain_conv(threads, s, plain_rows(s, x, s.inputs, s.inputs), pack_forward(s, weights), y);
}

Size turned(const Size& s) { return {s.images, s.height, s.width, s.outputs, s.inputs}; }

void conv_input(const Threads& threads, const Size& s, const Half* gradient, const float* weights, Half* result) {
  const auto rows = plain_rows(s, gradient, s.outputs, s.outputs);
  plain_conv(threads, turned(s), rows, pack_turned(turned(s), weights), result);
}

void conv_pool_input(const Threads& threads, const Size& s, const Half* gradient, const uint8_t* chosen,
                     const float* weights, Half* result) {
  const auto rows = spread_rows(s, gradient, chosen, s.outputs, s.outputs);
  plain_conv(threads, turned(s), rows, pack_turned(turned(s), weights), result);
}

// ---- gradient of the weights and the bias ---------------------------------------------------------------------------

// planes[channel][position], `plane` apart, from a line with `channels` channels; `count` of them, in whole tiles.
void turn_line(const Half* in, Int channels, Int count, Int positions, Int plane, Half* planes) {
  for (Int p = 0; p < positions; p += kStep)
    for (Int i = 0; i < count; i += kTile) {
      Words pairs[kTile];
      for (Int k = 0; k < kTile; ++k) {
        const Half* at = in + (p + 2 * k) * channels + i;
        pairs[k] = join(load<Halves>(at), load<Halves>(at + channels));
      }
      transpose(pairs, kTile, planes + i * plane + p, plane / 2);
    }
}

// words[pair of positions][channel], `width` apart; adds to the sums of the channels.
void pair_line(const Half* in, Int channels, Int positions, Int width, Word* words, float* sums) {
  for (Int o = 0; o < channels; o += kTile) {
    Vector sum = load<Vector>(sums + o);
    for (Int p = 0; p < positions; p += 2) {
      const Half* at = in + p * channels + o;
      const Halves first = load<Halves>(at, channels - o), second = load<Halves>(at + channels, channels - o);
      store(words + p / 2 * width + o, join(first, second));
      sum += widen(first) + widen(second);
    }
    store(sums + o, sum);
  }
}

// `rows(first output, number of outputs)` returns the gradient's rows. With few inputs, the columns of a kernel row are
// neighbors in memory, and treated as one column of three times the inputs.
template <typename Rows>
void weight_gradient(const Threads& threads, const Size& s, const Half* x, const Rows& rows, float* result,
                     float* bias) {
  const bool few = 3 * s.inputs <= kStep;
  const Int inputs = few ? 3 * s.inputs : s.inputs, columns = few ? 1 : 3;
  const Int tall = ceil_div(inputs, kStep) * kStep, width = min(2, ceil_div(s.outputs, kStep)) * kStep;
  const Int ranges = ceil_div(s.outputs, width), size = 9 * s.inputs * s.outputs, whole = size + s.outputs;
  const Cut cut(s, 1, kNear / (2 * kStep * sizeof(Half)));
  // With few outputs, the lines are divided too, and the partial sums added in order.
  const Int shares = max(1, min(cut.count, ceil_div(kParts, ranges)));
  float* partial = shares > 1 ? scratch<0>(shares * whole) : nullptr;
  parallel(threads, ranges * shares, [&](Int part) {
    const Int share = part / ranges, from = part % ranges * width, count = min(width, s.outputs - from);
    const Int all_sums = 3 * columns * tall * width;
    float* sums = scratch<2>(all_sums + width);
    std::memset(sums, 0, (all_sums + width) * sizeof(float));
    const Tiles tiles;
    for (Int index = cut.count * share / shares; index < cut.count * (share + 1) / shares; ++index) {
      const Line line(s, cut, index);
      const Int seen = ceil_div(line.positions + 2 * line.pitch + 2, kStep);
      const Int plane = (seen | 1) * kStep;  // an odd number of cache lines, so that planes spread over the cache
      Half* filled = scratch<1, Half>(line.size * max(s.inputs, count) + 2 * kStep);
      Half* planes = scratch<3, Half>(tall * plane);
      Word* words = scratch<4, Word>(line.positions / 2 * width);
      line.fill(s, s.inputs, plain_rows(s, x, s.inputs, s.inputs), filled);
      turn_line(filled, s.inputs, inputs, seen * kStep, plane, planes);
      line.fill(s, count, rows(from, count), filled);
      Half* gradient = filled + (line.pitch + 1) * count;
      std::memset(gradient + line.real * count, 0, (line.positions - line.real) * count * sizeof(Half));
      pair_line(gradient, count, line.positions, width, words, sums + all_sums);
      for (Int o = 0; o < width; o += kStep)
        for (Int i = 0; i < tall; i += kStep)
          for (Int tap = 0; tap < 3 * columns; ++tap) {
            float* at = sums + (tap * tall + i) * width + o;
            const Half* a = planes + i * plane + tap / columns * line.pitch + tap % columns;
            load_sums(at, width);
            for (Int p = 0; p < line.positions; p += kStep)
              add_products(a + p, plane, words + p / 2 * width + o, width);
            store_sums(at, width);
          }
    }
    float* out = partial ? partial + share * whole : result;
    if (partial || bias) std::memcpy((partial ? out + size : bias) + from, sums + all_sums, count * sizeof(float));
    for (Int tap = 0; tap < 3 * columns; ++tap)
      for (Int i = 0; i < inputs; ++i)
        std::memcpy(out + (tap * inputs + i) * s.outputs + from, sums + (tap * tall + i) * width,
                    count * sizeof(float));
  });
  if (partial) {
    for (Int share = 1; share < shares; ++share)
      for (Int i = 0; i < whole; ++i) partial[i] += partial[share * whole + i];
    std::memcpy(result, partial, size * sizeof(float));
    if (bias) std::memcpy(bias, partial + size, s.outputs * sizeof(float));
  }
}

void conv_weights(const Threads& threads, const Size& s, const Half* x, const Half* gradient, float* result) {
  const auto rows = [&](Int from, Int count) { return plain_rows(s, gradient + from, s.outputs, count); };
  weight_gradient(threads, s, x, rows, result, nullptr);
}

void conv_pool_weights(const Threads& threads, const Size& s, const Half* x, const Half* gradient,
                       const uint8_t* chosen, float* result, float* bias) {
  const auto rows = [&](Int from, Int count) {
    return spread_rows(s, gradient + from, chosen + from, s.outputs, count);
  };
  weight_gradient(threads, s, x, rows, result, bias);
}

}  // namespace

extern const Passes<Half> amx = {conv, conv_input, conv_weights, conv_pool, conv_pool_input, conv_pool_weights};

}  // namespace wing_jax
