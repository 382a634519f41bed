// 3 x 3 same convolution in bfloat16, alone or with 2 x 2 max-pool, bias and ReLU, and its gradients, by AMX: products
// in bfloat16, sums in float32. Images and their gradients are bfloat16; weights, bias and theirs float32.
//
// Images lie one after the other in a line of positions: a zero position follows each row and a row of zeros each image.
// A tap of the kernel is then a shift along the line, and every pass is a plain matrix product without border cases:
//   forward         y[p, o] = sum over taps and i  x[p + tap, i] w[tap, i, o]
//   input gradient  the same, of y's gradient, with the kernel turned by half a circle
//   weights         dw[tap, i, o] = sum over p  x[p + tap, i] dy[p, o]
// Pooled gradients are spread out with their zeros: AMX multiplies faster than one could leave them out.
//
// A step multiplies 32 rows of 32 values (two tiles `a`) by 32 columns of 32 values (two tiles `b`, whose rows hold
// pairs of neighboring values: "words"). Where a line is read past a kernel row's end, the weights are zeros.
// Work is cut by shape alone, each part writes its own outputs and sums in a fixed order: results do not depend on the
// number of threads or their timing.

#include <immintrin.h>

#include <cstdlib>
#include <cstring>
#include <new>

#include "conv3x3.h"

namespace wing_jax {
namespace {

using Word = uint32_t;  // two of Half

constexpr Int kTile = 16;                    // rows of a tile, and words or floats in each
constexpr Int kStep = 2 * kTile;             // rows, columns and products of a step
constexpr Int kParts = 8;                    // to cut the work into at least, where the shape allows
constexpr Int kBytes = 256 << 10;            // of the arrays of a part of the work
constexpr int kDead = 4;                     // in `chosen`: no gradient flows

typedef float Vector __attribute__((vector_size(kTile * sizeof(float))));
typedef Word Words __attribute__((vector_size(kTile * sizeof(Word))));
typedef Half Halves __attribute__((vector_size(kTile * sizeof(Half))));
typedef uint8_t Small __attribute__((vector_size(kTile)));

Int min(Int a, Int b) { return a < b ? a : b; }
Int max(Int a, Int b) { return a > b ? a : b; }
Int ceil_div(Int a, Int b) { return (a + b - 1) / b; }
Int round_up(Int a, Int to) { return ceil_div(a, to) * to; }

template <typename Value>
Value load(const void* at) {
  Value value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

float widen(Half value) {
  const Word bits = Word(value) << 16;
  return load<float>(&bits);
}

// To the nearest, ties to even; also of whole vectors.
Half narrow(float value) {
  const Word bits = load<Word>(&value);
  return value == value ? (bits + 0x7fff + (bits >> 16 & 1)) >> 16 : 0x7fc0;
}

// Memory that a thread keeps from call to call: fresh pages cost more than the arithmetic on them.
template <int slot, typename Value>
Value* scratch(Int count) {
  struct Kept {
    void* data = nullptr;
    Int size = 0;
    ~Kept() { std::free(data); }
  };
  thread_local Kept kept;
  const Int size = round_up(count * sizeof(Value), 4096);
  if (kept.size < size) {
    std::free(kept.data);
    kept.size = size;
    kept.data = std::aligned_alloc(64, size);
    if (!kept.data) throw std::bad_alloc();
  }
  return static_cast<Value*>(kept.data);
}

template <typename Body>
void parallel(const Threads& threads, Int count, const Body& body) {
  threads.run(
      threads.pool, count, [](const void* context, Int part) { (*static_cast<const Body*>(context))(part); }, &body);
}

// Eight tiles of 16 rows of 64 bytes, for as long as it lives, for this thread.
struct Tiles {
  Tiles() {
    struct alignas(64) {
      uint8_t palette = 1, start = 0, unused[14] = {};
      uint16_t bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
      uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
    } config;
    asm volatile("" : : "m"(config));
    _tile_loadconfig(&config);
  }
  ~Tiles() { _tile_release(); }
};

inline void zero_sums() {
  asm volatile("" : : : "memory");  // the tile instructions read what was written before, unknown to some compilers
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
}

inline void load_sums(const float* at, Int stride) {
  asm volatile("" : : : "memory");
  _tile_loadd(0, at, stride * sizeof(float));
  _tile_loadd(1, at + kTile, stride * sizeof(float));
  _tile_loadd(2, at + kTile * stride, stride * sizeof(float));
  _tile_loadd(3, at + kTile * stride + kTile, stride * sizeof(float));
}

inline void store_sums(float* at, Int stride) {
  _tile_stored(0, at, stride * sizeof(float));
  _tile_stored(1, at + kTile, stride * sizeof(float));
  _tile_stored(2, at + kTile * stride, stride * sizeof(float));
  _tile_stored(3, at + kTile * stride + kTile, stride * sizeof(float));
  asm volatile("" : : : "memory");
}

inline void add_products(const Half* a, Int a_stride, const Word* b, Int b_stride) {
  _tile_loadd(4, a, a_stride * sizeof(Half));
  _tile_loadd(6, b, b_stride * sizeof(Word));
  _tile_dpbf16ps(0, 4, 6);
  _tile_loadd(7, b + kTile, b_stride * sizeof(Word));
  _tile_dpbf16ps(1, 4, 7);
  _tile_loadd(5, a + kTile * a_stride, a_stride * sizeof(Half));
  _tile_dpbf16ps(2, 5, 6);
  _tile_dpbf16ps(3, 5, 7);
}

template <Word distance>
inline void exchange(Words rows[kTile]) {
  const Words lane = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, upper = lane & distance;
  const Words low = upper != 0 ? lane - distance + kTile : lane, high = upper != 0 ? lane + kTile : lane + distance;
#pragma GCC unroll 16
  for (Word i = 0; i < kTile; ++i)
    if (!(i & distance)) {
      const Words one = rows[i], two = rows[i + distance];
      rows[i] = __builtin_shuffle(one, two, low);
      rows[i + distance] = __builtin_shuffle(one, two, high);
    }
}

// out[i][j] = in[j][i], 16 x 16 words.
void transpose(const Word* in, Int in_stride, Word* out, Int out_stride) {
  Words rows[kTile];
#pragma GCC unroll 16
  for (Int i = 0; i < kTile; ++i) rows[i] = load<Words>(in + i * in_stride);
  exchange<1>(rows);
  exchange<2>(rows);
  exchange<4>(rows);
  exchange<8>(rows);
#pragma GCC unroll 16
  for (Int i = 0; i < kTile; ++i) std::memcpy(out + i * out_stride, &rows[i], sizeof(Words));
}

// How the images are cut into parts: `images` whole images, or strips of `rows` rows of one.
struct Cut {
  Int images, rows, strips, count;

  Cut(const Size& s, Int unit, Int bytes) {  // rows come in multiples of `unit`; `bytes` for a position
    const Int all = s.height / unit, fitting = kBytes / (bytes * (s.width + 1));
    strips = max(ceil_div(all, max(1, fitting / unit)), min(all, ceil_div(kParts, s.images)));
    rows = ceil_div(all, min(all, strips)) * unit;
    strips = ceil_div(s.height, rows);
    images = strips > 1 ? 1 : max(1, min(s.images, fitting / (s.height + 1)));
    count = ceil_div(s.images, images) * strips;
  }
};

// A part of the images as a line: position (image, row, column) is (image * (rows + 1) + row) * pitch + column. In
// memory it has one row and one position more in front: the kernel's first tap there is the position itself.
struct Line {
  Int image, images, row, rows, pitch, positions, size;

  Line(const Size& s, const Cut& cut, Int index) {
    image = index / cut.strips * cut.images;
    images = min(cut.images, s.images - image);
    row = index % cut.strips * cut.rows;
    rows = min(cut.rows, s.height - row);
    pitch = s.width + 1;
    positions = round_up((images * (rows + 1) - 1) * pitch, kStep);
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
        const bool real = y >= 0 && y < s.height;
        if (real) row_of(image + i, y, out);
        const Int written = real ? s.width * channels : 0;
        std::memset(out + written, 0, (pitch * channels - written) * sizeof(Half));
      }
    std::memset(out, 0, (end - out) * sizeof(Half));
  }
};

// Rows for `Line::fill`: channels `from` .. `from + count` of an array as it is ...
auto plain_rows(const Size& s, const Half* x, Int channels, Int from, Int count) {
  return [=](Int image, Int y, Half* out) {
    const Half* in = x + (image * s.height + y) * s.width * channels + from;
    if (count == channels)
      std::memcpy(out, in, s.width * channels * sizeof(Half));
    else
      for (Int i = 0; i < s.width; ++i) std::memcpy(out + i * count, in + i * channels, count * sizeof(Half));
  };
}

// ... and of a pooled gradient, at the positions where it flows to.
auto spread_rows(const Size& s, const Half* gradient, const uint8_t* chosen, Int from, Int count) {
  return [=](Int image, Int y, Half* out) {
    const Int first = (image * s.height + y) / 2 * (s.width / 2);
    const uint8_t left = y % 2 * 2, right = left + 1;
    for (Int cell = first; cell < first + s.width / 2; ++cell, out += 2 * count) {
      const Half* value = gradient + cell * s.outputs + from;
      const uint8_t* which = chosen + cell * s.outputs + from;
      for (Int o = 0; o < count; ++o) out[o] = which[o] == left ? value[o] : 0;
      for (Int o = 0; o < count; ++o) out[count + o] = which[o] == right ? value[o] : 0;
    }
  };
}

// ---- forward, and gradient of the input -----------------------------------------------------------------------------

// Calls done(line, first output, sums) for every part and 32 outputs: sums as [position][32]. `pack(first of 16 outputs,
// row of the kernel, out)` writes their weights as [pairs of column and input][output], 32 apart.
template <typename Rows, typename Pack, typename Done>
void convolve(const Threads& threads, const Size& s, Int unit, const Rows& rows, const Pack& pack, const Done& done) {
  const Int groups = ceil_div(s.outputs, kStep), steps = ceil_div(3 * s.inputs, kStep);
  const Int kernel_row = steps * kStep * kTile, slab = 3 * kernel_row;
  Word* packed = scratch<0, Word>(groups * slab);
  parallel(threads, groups * 6, [&](Int part) {
    pack(part / 6 * kStep + part % 2 * kTile, part % 6 / 2,
         packed + part / 6 * slab + part % 6 / 2 * kernel_row + part % 2 * kTile);
  });
  const Cut cut(s, unit, s.inputs * sizeof(Half) + kStep * sizeof(float));
  const Int splits = min(groups, ceil_div(kParts, cut.count));
  parallel(threads, cut.count * splits, [&](Int part) {
    const Line line(s, cut, part / splits);
    const Int split = part % splits;
    Half* x = scratch<1, Half>(line.size * s.inputs);
    float* sums = scratch<2, float>(line.positions * kStep);
    line.fill(s, s.inputs, rows, x);
    const Tiles tiles;
    for (Int g = groups * split / splits; g < groups * (split + 1) / splits; ++g) {
      for (Int p = 0; p < line.positions; p += kStep) {
        const Word* w = packed + g * slab;
        zero_sums();
        for (Int row = 0; row < 3; ++row)
          for (Int step = 0; step < steps; ++step, w += kStep * kTile)
            add_products(x + (p + row * line.pitch) * s.inputs + step * kStep, s.inputs, w, kStep);
        store_sums(sums + p * kStep, kStep);
      }
      done(line, g * kStep, sums);
    }
  });
}

auto pack_forward(const Size& s, const float* weights) {
  return [=](Int from, Int row, Word* out) {
    const Int length = 3 * s.inputs, count = min(kTile, s.outputs - from);
    const float* in = weights + row * length * s.outputs + from;
    for (Int step = 0; step < length; step += kStep, out += kTile * kStep)
      for (Int k = 0; k < kTile; ++k) {
        const Int at = step + 2 * k;
        float one[kTile] = {}, two[kTile] = {};
        if (at < length && count > 0) std::memcpy(one, in + at * s.outputs, count * sizeof(float));
        if (at + 1 < length && count > 0) std::memcpy(two, in + (at + 1) * s.outputs, count * sizeof(float));
        for (Int o = 0; o < kTile; ++o) out[k * kStep + o] = narrow(one[o]) | Word(narrow(two[o])) << 16;
      }
  };
}

// Of the kernel turned by half a circle, from outputs to inputs; `s` is of the turned one.
auto pack_turned(const Size& s, const float* weights) {
  return [=](Int from, Int row, Word* out) {
    const Int length = 3 * s.inputs, stride = round_up(length, kStep);
    Half* rows = scratch<1, Half>(kTile * stride);
    std::memset(rows, 0, kTile * stride * sizeof(Half));
    for (Int o = 0; o < min(kTile, s.outputs - from); ++o)
      for (Int column = 0; column < 3; ++column) {
        const float* in = weights + ((8 - 3 * row - column) * s.outputs + from + o) * s.inputs;
        for (Int i = 0; i < s.inputs; ++i) rows[o * stride + column * s.inputs + i] = narrow(in[i]);
      }
    for (Int step = 0; step < stride; step += kStep, out += kTile * kStep)
      transpose(reinterpret_cast<const Word*>(rows + step), stride / 2, out, kStep);
  };
}

// 16 pooled outputs from the sums of a cell's four positions.
inline void pool(const float* sums, Int right, Int down, Vector bias, bool relu, Int count, Half* out,
                 uint8_t* chosen) {
  Vector best = load<Vector>(sums);
  Words which = {};
  for (int p = 1; p < 4; ++p) {
    const Vector value = load<Vector>(sums + p % 2 * right + p / 2 * down);
    const auto better = (value > best) | (value != value);  // a NaN counts as the largest: it must not be lost
    best = better ? value : best;
    which = better ? p - Words{} : which;
  }
  best += bias;
  if (relu) {
    which = best > 0 ? which : kDead - Words{};
    best = best <= 0 ? Vector{} : best;
  }
  const Words bits = load<Words>(&best);
  const Words narrowed = best == best ? (bits + 0x7fff + (bits >> 16 & 1)) >> 16 : 0x7fc0 - Words{};
  const Halves values = __builtin_convertvector(narrowed, Halves);
  const Small places = __builtin_convertvector(which, Small);
  if (count >= kTile) {
    std::memcpy(out, &values, sizeof values);
    std::memcpy(chosen, &places, sizeof places);
  } else {
    std::memcpy(out, &values, count * sizeof(Half));
    std::memcpy(chosen, &places, count);
  }
}

void conv_pool(const Threads& threads, const Size& s, const Half* x, const float* weights, const float* bias,
               bool relu, Half* pooled, uint8_t* chosen) {
  convolve(threads, s, 2, plain_rows(s, x, s.inputs, 0, s.inputs), pack_forward(s, weights),
           [&](const Line& line, Int from, const float* sums) {
             for (Int half = from; half < min(from + kStep, s.outputs); half += kTile, sums += kTile) {
               const Int count = min(kTile, s.outputs - half);
               Vector shift = {};
               std::memcpy(&shift, bias + half, count * sizeof(float));
               for (Int i = 0; i < line.images; ++i)
                 for (Int y = 0; y < line.rows; y += 2) {
                   const float* in = sums + (i * (line.rows + 1) + y) * line.pitch * kStep;
                   Int at = ((line.image + i) * s.height + line.row + y) / 2 * (s.width / 2) * s.outputs + half;
                   for (Int x = 0; x < s.width; x += 2, at += s.outputs, in += 2 * kStep)
                     pool(in, kStep, line.pitch * kStep, shift, relu, count, pooled + at, chosen + at);
                 }
             }
           });
}

// Writes the sums as they are.
auto plain_done(const Size& s, Half* y) {
  return [=](const Line& line, Int from, const float* sums) {
    const Int count = min(kStep, s.outputs - from);
    for (Int i = 0; i < line.images; ++i)
      for (Int row = 0; row < line.rows; ++row) {
        const float* in = sums + (i * (line.rows + 1) + row) * line.pitch * kStep;
        Half* out = y + ((line.image + i) * s.height + line.row + row) * s.width * s.outputs + from;
        for (Int x = 0; x < s.width; ++x, in += kStep, out += s.outputs)
          for (Int o = 0; o < count; ++o) out[o] = narrow(in[o]);
      }
  };
}

void conv(const Threads& threads, const Size& s, const Half* x, const float* weights, Half* y) {
  convolve(threads, s, 1, plain_rows(s, x, s.inputs, 0, s.inputs), pack_forward(s, weights), plain_done(s, y));
}

Size turned(const Size& s) { return {s.images, s.height, s.width, s.outputs, s.inputs}; }

void conv_input(const Threads& threads, const Size& size, const Half* gradient, const float* weights, Half* result) {
  const Size s = turned(size);
  convolve(threads, s, 1, plain_rows(s, gradient, s.inputs, 0, s.inputs), pack_turned(s, weights),
           plain_done(s, result));
}

void conv_pool_input(const Threads& threads, const Size& size, const Half* gradient, const uint8_t* chosen,
                     const float* weights, Half* result) {
  const Size s = turned(size);
  convolve(threads, s, 1, spread_rows(size, gradient, chosen, 0, size.outputs), pack_turned(s, weights),
           plain_done(s, result));
}

// ---- gradient of the weights and the bias ---------------------------------------------------------------------------

// Pairs of neighbors along a line, `stride` apart, as words.
inline void interleave(const Half* in, Int stride, Int count, Word* out) {
  for (Int i = 0; i < count; ++i) out[i] = in[i] | Word(in[stride + i]) << 16;
}

// `rows(first output, number of outputs)` gives the gradient's rows. Few inputs: a kernel row's columns are neighbors in
// memory, and taken for one column with three times the inputs.
template <typename Rows>
void weight_gradient(const Threads& threads, const Size& s, const Half* x, const Rows& rows, float* result,
                     float* bias) {
  const Int run = 3 * s.inputs <= kStep ? 3 * s.inputs : s.inputs, columns = 3 * s.inputs / run;
  const Int tall = round_up(run, kStep), width = s.outputs < 512 ? kStep : 2 * kStep;
  const Int ranges = ceil_div(s.outputs, width), size = 9 * s.inputs * s.outputs, whole = size + s.outputs;
  const Cut cut(s, 1, (tall + width) * sizeof(Half));
  // Few outputs: the lines are shared out too, and the shares' sums added in order.
  const Int shares = min(cut.count, ceil_div(kParts, ranges));
  float* partial = shares > 1 ? scratch<0, float>(shares * whole) : nullptr;
  parallel(threads, ranges * shares, [&](Int part) {
    const Int share = part / ranges, from = part % ranges * width, count = min(width, s.outputs - from);
    const Int all_sums = 3 * columns * tall * width;
    float* sums = scratch<2, float>(all_sums + width);
    float* bias_sums = sums + all_sums;
    std::memset(sums, 0, (all_sums + width) * sizeof(float));
    const Tiles tiles;
    for (Int index = cut.count * share / shares; index < cut.count * (share + 1) / shares; ++index) {
      const Line line(s, cut, index);
      const Int shifted = round_up(line.positions + 2 * line.pitch + 2, kStep);
      const Int plane = (shifted / kStep | 1) * kStep;  // an odd number of cache lines: planes spread over the cache
      Half* filled = scratch<1, Half>((line.size + kStep) * max(s.inputs, width));
      Half* planes = scratch<3, Half>(tall * plane);
      Word* words = scratch<4, Word>(line.positions / 2 * width);
      line.fill(s, s.inputs, plain_rows(s, x, s.inputs, 0, s.inputs), filled);
      std::memset(filled + line.size * s.inputs, 0, kStep * s.inputs * sizeof(Half));
      for (Int p = 0; p < shifted; p += kStep)
        for (Int i = 0; i < tall; i += kTile) {
          Word pairs[kTile * kTile] = {};
          for (Int k = 0; k < kTile; ++k)
            interleave(filled + (p + 2 * k) * s.inputs + i, s.inputs, max(0, min(kTile, run - i)), pairs + k * kTile);
          transpose(pairs, kTile, reinterpret_cast<Word*>(planes + i * plane + p), plane / 2);
        }
      line.fill(s, count, rows(from, count), filled);
      const Half* gradient = filled + (line.pitch + 1) * count;
      const Int real = (line.images * (line.rows + 1) - 1) * line.pitch;
      std::memset(filled + (line.pitch + 1 + real) * count, 0, (line.positions - real) * count * sizeof(Half));
      std::memset(words, 0, line.positions / 2 * width * sizeof(Word));
      for (Int p = 0; p < line.positions; p += 2)
        interleave(gradient + p * count, count, count, words + p / 2 * width);
      for (Int p = 0; p < real; ++p)
        for (Int o = 0; o < count; ++o) bias_sums[o] += widen(gradient[p * count + o]);
      for (Int o = 0; o < width; o += kStep)
        for (Int i = 0; i < tall; i += kStep)
          for (Int tap = 0; tap < 3 * columns; ++tap) {
            float* at = sums + (tap * tall + i) * width + o;
            const Half* a = planes + i * plane + tap / columns * line.pitch + tap % columns;
            load_sums(at, width);
            for (Int p = 0; p < line.positions; p += kStep) add_products(a + p, plane, words + p / 2 * width + o, width);
            store_sums(at, width);
          }
    }
    float* out = partial ? partial + share * whole : result;
    if (partial || bias) std::memcpy((partial ? out + size : bias) + from, bias_sums, count * sizeof(float));
    for (Int tap = 0; tap < 3 * columns; ++tap)
      for (Int i = 0; i < run; ++i)
        std::memcpy(out + (tap * run + i) * s.outputs + from, sums + (tap * tall + i) * width, count * sizeof(float));
  });
  if (partial) {
    for (Int share = 1; share < shares; ++share)
      for (Int i = 0; i < whole; ++i) partial[i] += partial[share * whole + i];
    std::memcpy(result, partial, size * sizeof(float));
    if (bias) std::memcpy(bias, partial + size, s.outputs * sizeof(float));
  }
}

void conv_weights(const Threads& threads, const Size& s, const Half* x, const Half* gradient, float* result) {
  const auto rows = [&](Int from, Int count) { return plain_rows(s, gradient, s.outputs, from, count); };
  weight_gradient(threads, s, x, rows, result, nullptr);
}

void conv_pool_weights(const Threads& threads, const Size& s, const Half* x, const Half* gradient,
                       const uint8_t* chosen, float* result, float* bias) {
  const auto rows = [&](Int from, Int count) { return spread_rows(s, gradient, chosen, from, count); };
  weight_gradient(threads, s, x, rows, result, bias);
}

}  // namespace

extern const Passes<Half> amx = {conv, conv_input, conv_weights, conv_pool, conv_pool_input, conv_pool_weights};

}  // namespace wing_jax
