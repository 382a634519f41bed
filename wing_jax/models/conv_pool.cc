// 3 x 3 same convolution, 2 x 2 max-pool, bias and ReLU as one float32 operation for CPUs with AVX-512.
//
// Arrays are NHWC, weights HWIO. A "cell" is one pooled position: 2 x 2 outputs, which see 4 x 4 inputs. The forward
// pass keeps a cell's four sums in registers and writes only the largest and which one it was (0..3 in row order, the
// first of equals; 4 where ReLU gave 0), so the maps before the pooling never exist. As only one of the four carries a
// gradient, both backward passes do a quarter of the multiplications of a plain convolution's, or fewer after ReLU.
//
// Every pass copies the input a tile (some images, or some rows of one) at a time into zero-padded blocks of 16
// channels, [block][row][column][channel], that stay in cache, without border cases.
// Work is cut by shape alone, each part writes its own outputs and sums in a fixed order: results do not depend on the
// number of threads or their timing.

#include <immintrin.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <thread>

#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;

namespace {

using Floats = ffi::Buffer<ffi::F32>;
using Bytes = ffi::Buffer<ffi::U8>;
using Int = int64_t;

constexpr Int kLanes = 16;     // floats in a register
constexpr Int kOutputs = 32;   // output channels of one forward pass over a cell
constexpr Int kCells = 3;      // cells at once in the forward pass: 3 x 4 x 2 sums in 24 of 32 registers
constexpr Int kSources = 64;   // output channels whose weights for 16 inputs fit the L1 cache (36 KiB)
constexpr Int kParts = 8;      // parts to cut the work into at least, where the shape allows
constexpr Int kNear = 42 << 10, kFar = 512 << 10;  // bytes of a tile: in the L1 cache, in the L2 cache

Int ceil_div(Int a, Int b) { return (a + b - 1) / b; }

__mmask16 first_lanes(Int count) { return count >= kLanes ? 0xffff : (1u << std::max<Int>(count, 0)) - 1; }

__m512i multiples(Int stride) {
  return _mm512_mullo_epi32(_mm512_set1_epi32(stride),
                            _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
}

// Memory that a thread keeps from call to call: fresh pages cost more than the arithmetic on them.
template <int slot>
float* scratch(Int floats) {
  struct Kept {
    float* data = nullptr;
    Int size = 0;
    ~Kept() { std::free(data); }
  };
  thread_local Kept kept;
  if (kept.size < floats) {
    std::free(kept.data);
    kept.size = ceil_div(floats, 1024) * 1024;
    kept.data = static_cast<float*>(std::aligned_alloc(64, kept.size * sizeof(float)));
    if (!kept.data) throw std::bad_alloc();
  }
  return kept.data;
}

// Calls body(0) .. body(count - 1) on this thread and XLA's. Whoever is free takes the next part, and this thread waits
// only for parts that have begun, so that calls which fill the pool cannot lock each other out.
template <typename Body>
void parallel(ffi::ThreadPool& pool, Int count, const Body& body) {
  struct State {
    std::atomic<Int> next{0}, done{0};
  };
  auto state = std::make_shared<State>();
  auto work = [state, count, &body] {
    for (Int part; (part = state->next.fetch_add(1)) < count; state->done.fetch_add(1)) body(part);
  };
  for (Int helper = std::min(count, pool.num_threads()) - 1; helper > 0; --helper) pool.Schedule([work] { work(); });
  work();
  while (state->done.load() < count) std::this_thread::yield();
}

struct Shape {
  Int images, height, width, inputs, outputs;
  Int rows, columns;   // of the pooled map
  Int block, blocks;   // channels of an input block, their number
  Int position, line;  // floats to the next column and row of a block

  Shape(const Floats& x, Int outputs)
      : images(x.dimensions()[0]), height(x.dimensions()[1]), width(x.dimensions()[2]), inputs(x.dimensions()[3]),
        outputs(outputs), rows(height / 2), columns(width / 2), block(std::min(inputs, kLanes)),
        blocks(ceil_div(inputs, kLanes)), position(block), line((width + 2) * block) {}
};

// How the cells are cut into tiles: `images` whole images, or strips of `rows` pooled rows of one.
struct Tiling {
  Int images, rows, strips, count;

  Tiling(const Shape& s, Int blocks, Int bytes, bool whole) {
    const Int fitting = bytes / (blocks * s.line * Int(sizeof(float)));
    strips = whole ? 1 : std::min(s.rows, ceil_div(s.rows, std::max<Int>(1, (fitting - 2) / 2)));
    if (!whole) strips = std::max(strips, std::min(s.rows, ceil_div(kParts, s.images)));
    rows = ceil_div(s.rows, strips);
    strips = ceil_div(s.rows, rows);
    images = strips > 1 ? 1 : std::clamp<Int>(fitting / (s.height + 2), 1, s.images);
    count = ceil_div(s.images, images) * strips;
  }
};

struct Tile {
  Int image, images, row, rows, cells, first_cell;
  Int area;  // floats of one block of one image

  Tile(const Shape& s, const Tiling& cut, Int index) {
    image = index / cut.strips * cut.images;
    images = std::min(cut.images, s.images - image);
    row = index % cut.strips * cut.rows;
    rows = std::min(cut.rows, s.rows - row);
    cells = images * rows * s.columns;
    first_cell = (image * s.rows + row) * s.columns;
    area = (2 * rows + 2) * s.line;
  }

  // Where each cell's 4 x 4 inputs begin, in floats; `stride` floats lie between images.
  void offsets(const Shape& s, Int stride, int32_t* out) const {
    for (Int i = 0; i < images; ++i)
      for (Int y = 0; y < rows; ++y)
        for (Int x = 0; x < s.columns; ++x) *out++ = i * stride + 2 * y * s.line + 2 * x * s.position;
  }
};

// One block of channels of one image's rows of a tile, with a border of zeros.
void pad(const Shape& s, const Tile& tile, const float* x, Int image, Int block, float* out) {
  const Int from = block * kLanes;
  const __mmask16 lanes = first_lanes(s.inputs - from), wide = first_lanes(s.block);
  for (Int y = 2 * tile.row - 1; y < 2 * (tile.row + tile.rows) + 1; ++y, out += s.line) {
    if (y < 0 || y >= s.height) {
      std::memset(out, 0, s.line * sizeof(float));
      continue;
    }
    const float* in = x + (image * s.height + y) * s.width * s.inputs + from;
    _mm512_mask_storeu_ps(out, wide, _mm512_setzero_ps());
    for (Int column = 0; column < s.width; ++column)
      _mm512_mask_storeu_ps(out + (column + 1) * s.block, wide, _mm512_maskz_loadu_ps(lanes, in + column * s.inputs));
    _mm512_mask_storeu_ps(out + (s.width + 1) * s.block, wide, _mm512_setzero_ps());
  }
}

// ---- forward --------------------------------------------------------------------------------------------------------

// Weights as [32 outputs][block][row of the kernel][column and input][output]: read in order by the loop below.
void pack_forward(const Shape& s, const float* weights, Int group, float* out) {
  const Int from = group * kOutputs;
  const __mmask16 low = first_lanes(s.outputs - from), high = first_lanes(s.outputs - from - kLanes);
  for (Int b = 0; b < s.blocks; ++b)
    for (Int tap = 0; tap < 9; ++tap)
      for (Int i = 0; i < s.block; ++i, out += kOutputs) {
        const Int input = b * kLanes + i;
        const bool real = input < s.inputs;
        const float* in = weights + (tap * s.inputs + (real ? input : 0)) * s.outputs + from;
        _mm512_storeu_ps(out, _mm512_maskz_loadu_ps(real ? low : 0, in));
        _mm512_storeu_ps(out + kLanes, _mm512_maskz_loadu_ps(real ? high : 0, in + kLanes));
      }
}

// The four sums of three cells for 32 outputs. The three columns of a kernel row are neighbours in memory: one loop.
inline void convolve(const Shape& s, Int area, const float* const* cells, const float* w, __m512 sums[kCells][4][2]) {
  for (Int c = 0; c < kCells; ++c)
    for (Int p = 0; p < 4; ++p) sums[c][p][0] = sums[c][p][1] = _mm512_setzero_ps();
  const Int down = s.line, right = s.position, length = 3 * s.block;
  for (Int b = 0; b < s.blocks; ++b)
    for (Int row = 0; row < 3; ++row) {
      const Int at = b * area + row * s.line;
      const float* x[kCells] = {cells[0] + at, cells[1] + at, cells[2] + at};
      for (Int k = 0; k < length; ++k, w += kOutputs) {
        const __m512 low = _mm512_load_ps(w), high = _mm512_load_ps(w + kLanes);
#pragma GCC unroll 3
        for (Int c = 0; c < kCells; ++c)
#pragma GCC unroll 4
          for (Int p = 0; p < 4; ++p) {
            const __m512 value = _mm512_set1_ps(x[c][k + (p & 1 ? right : 0) + (p & 2 ? down : 0)]);
            sums[c][p][0] = _mm512_fmadd_ps(value, low, sums[c][p][0]);
            sums[c][p][1] = _mm512_fmadd_ps(value, high, sums[c][p][1]);
          }
      }
    }
}

inline void pool_cell(const __m512 sums[4][2], Int half, __m512 bias, bool relu, __mmask16 lanes, float* out,
                      uint8_t* chosen) {
  __m512 best = sums[0][half];
  __m512i which = _mm512_setzero_si512();
  for (int p = 1; p < 4; ++p) {
    const __m512 value = sums[p][half];
    // A NaN counts as the largest: it must not be lost.
    const __mmask16 better =
        _mm512_cmp_ps_mask(value, best, _CMP_GT_OQ) | _mm512_cmp_ps_mask(value, value, _CMP_UNORD_Q);
    best = _mm512_mask_mov_ps(best, better, value);
    which = _mm512_mask_mov_epi32(which, better, _mm512_set1_epi32(p));
  }
  best = _mm512_add_ps(best, bias);
  if (relu) {
    const __m512 zero = _mm512_setzero_ps();
    which = _mm512_mask_mov_epi32(which, _mm512_cmp_ps_mask(best, zero, _CMP_NGT_UQ), _mm512_set1_epi32(4));
    best = _mm512_max_ps(zero, best);  // the second operand where one is NaN
  }
  _mm512_mask_storeu_ps(out, lanes, best);
  _mm512_mask_cvtepi32_storeu_epi8(chosen, lanes, which);
}

ffi::Error forward(ffi::ThreadPool pool, Floats x, Floats weights, Floats bias, ffi::Result<Floats> pooled,
                   ffi::Result<Bytes> chosen, bool relu) {
  const Shape s(x, weights.dimensions()[3]);
  const Int groups = ceil_div(s.outputs, kOutputs), slab = s.blocks * 9 * s.block * kOutputs;
  float* packed = scratch<0>(groups * slab);
  parallel(pool, groups, [&](Int g) { pack_forward(s, weights.typed_data(), g, packed + g * slab); });
  const Tiling cut(s, s.blocks, kFar, false);
  const Int splits = std::min(groups, ceil_div(kParts, cut.count));
  parallel(pool, cut.count * splits, [&](Int part) {
    const Tile tile(s, cut, part / splits);
    const Int split = part % splits, stride = s.blocks * tile.area;
    float* padded = scratch<1>(tile.images * stride + tile.cells);
    int32_t* offsets = reinterpret_cast<int32_t*>(padded + tile.images * stride);
    tile.offsets(s, stride, offsets);
    for (Int i = 0; i < tile.images; ++i)
      for (Int b = 0; b < s.blocks; ++b)
        pad(s, tile, x.typed_data(), tile.image + i, b, padded + i * stride + b * tile.area);
    for (Int g = groups * split / splits; g < groups * (split + 1) / splits; ++g)
      for (Int first = 0; first < tile.cells; first += kCells) {
        const float* cells[kCells];
        for (Int c = 0; c < kCells; ++c) cells[c] = padded + offsets[std::min(first + c, tile.cells - 1)];
        __m512 sums[kCells][4][2];
        convolve(s, tile.area, cells, packed + g * slab, sums);
        for (Int c = 0; c < kCells && first + c < tile.cells; ++c)
          for (Int half = 0; half < 2; ++half) {
            const Int output = g * kOutputs + half * kLanes, at = (tile.first_cell + first + c) * s.outputs + output;
            const __mmask16 lanes = first_lanes(s.outputs - output);
            pool_cell(sums[c], half, _mm512_maskz_loadu_ps(lanes, bias.typed_data() + output), relu, lanes,
                      pooled->typed_data() + at, chosen->typed_data() + at);
          }
      }
  });
  return ffi::Error::Success();
}

// ---- gradient of the input ------------------------------------------------------------------------------------------

// Weights as [block][output][tap][16 inputs], zeros beyond the last input.
void pack_backward(const Shape& s, const float* weights, Int block, float* out) {
  const __m512i stride = multiples(s.outputs);
  const __mmask16 lanes = first_lanes(s.inputs - block * kLanes);
  for (Int tap = 0; tap < 9; ++tap) {
    const float* in = weights + (tap * s.inputs + block * kLanes) * s.outputs;
    for (Int o = 0; o < s.outputs; ++o)
      _mm512_store_ps(out + (o * 9 + tap) * kLanes,
                      _mm512_mask_i32gather_ps(_mm512_setzero_ps(), lanes, stride, in + o, 4));
  }
}

// A cell's gradients of 64 outputs, sorted by the position that they flow to: entries end[p - 1] .. end[p] to p.
struct Sorted {
  int32_t weight[kSources + kLanes];  // bytes from the block's first weight
  float value[kSources + kLanes];
  int32_t end[4];
};

void sort(const float* gradient, const uint8_t* chosen, Int count, Sorted& out) {
  constexpr Int kBytes = 9 * kLanes * sizeof(float);
  __m512 values[kSources / kLanes];
  __m512i places[kSources / kLanes];
  for (Int i = 0; i < kSources / kLanes; ++i) {
    const __mmask16 lanes = first_lanes(count - i * kLanes);
    alignas(16) uint8_t place[kLanes];
    std::memset(place, 4, kLanes);
    std::memcpy(place, chosen + i * kLanes, std::clamp<Int>(count - i * kLanes, 0, kLanes));
    places[i] = _mm512_cvtepu8_epi32(_mm_load_si128(reinterpret_cast<const __m128i*>(place)));
    values[i] = _mm512_maskz_loadu_ps(lanes, gradient + i * kLanes);
  }
  Int at = 0;
  for (int p = 0; p < 4; ++p) {
    for (Int i = 0; i < kSources / kLanes; ++i) {
      const __mmask16 here = _mm512_cmpeq_epi32_mask(places[i], _mm512_set1_epi32(p));
      const __m512i weight = _mm512_add_epi32(multiples(kBytes), _mm512_set1_epi32(i * kLanes * kBytes));
      _mm512_storeu_si512(out.weight + at, _mm512_maskz_compress_epi32(here, weight));
      _mm512_storeu_ps(out.value + at, _mm512_maskz_compress_ps(here, values[i]));
      at += _mm_popcnt_u32(here);
    }
    out.end[p] = at;
  }
}

// Adds the gradients that flow to position p to the 4 x 4 inputs of 16 channels, held in registers.
template <int p>
inline void spread(const Sorted& sorted, const float* weights, __m512 inputs[16]) {
  for (Int e = p ? sorted.end[p - 1] : 0; e < sorted.end[p]; ++e) {
    const __m512 value = _mm512_set1_ps(sorted.value[e]);
    const float* w = reinterpret_cast<const float*>(reinterpret_cast<const char*>(weights) + sorted.weight[e]);
#pragma GCC unroll 9
    for (int tap = 0; tap < 9; ++tap) {
      __m512& input = inputs[(p / 2 + tap / 3) * 4 + p % 2 + tap % 3];
      input = _mm512_fmadd_ps(value, _mm512_load_ps(w + tap * kLanes), input);
    }
  }
}

void spread_cell(const Sorted& sorted, const float* weights, float* at, Int line) {
  __m512 inputs[16];
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) inputs[i] = _mm512_load_ps(at + i / 4 * line + i % 4 * kLanes);
  spread<0>(sorted, weights, inputs);
  spread<1>(sorted, weights, inputs);
  spread<2>(sorted, weights, inputs);
  spread<3>(sorted, weights, inputs);
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) _mm512_store_ps(at + i / 4 * line + i % 4 * kLanes, inputs[i]);
}

ffi::Error input_gradient(ffi::ThreadPool pool, Floats gradient, Bytes chosen, Floats weights,
                          ffi::Result<Floats> result) {
  Shape s(*result, weights.dimensions()[3]);
  s.position = kLanes, s.line = (s.width + 2) * kLanes;
  const Int groups = ceil_div(s.outputs, kSources), slab = s.outputs * 9 * kLanes;
  float* packed = scratch<0>(s.blocks * slab);
  parallel(pool, s.blocks, [&](Int b) { pack_backward(s, weights.typed_data(), b, packed + b * slab); });
  const Tiling cut(s, 1, kNear, true);
  const Int splits = std::min(s.blocks, ceil_div(kParts, cut.count));
  parallel(pool, cut.count * splits, [&](Int part) {
    const Tile tile(s, cut, part / splits);
    const Int split = part % splits, cells = tile.cells, size = tile.images * tile.area;
    float* sums = scratch<1>(size + cells + groups * cells * Int(sizeof(Sorted) / sizeof(float)));
    int32_t* offsets = reinterpret_cast<int32_t*>(sums + size);
    Sorted* sorted = reinterpret_cast<Sorted*>(offsets + cells);
    tile.offsets(s, tile.area, offsets);
    for (Int c = 0; c < cells; ++c)
      for (Int g = 0; g < groups; ++g) {
        const Int at = (tile.first_cell + c) * s.outputs + g * kSources;
        sort(gradient.typed_data() + at, chosen.typed_data() + at, s.outputs - g * kSources, sorted[g * cells + c]);
      }
    for (Int b = s.blocks * split / splits; b < s.blocks * (split + 1) / splits; ++b) {
      std::memset(sums, 0, size * sizeof(float));
      for (Int g = 0; g < groups; ++g)
        for (Int c = 0; c < cells; ++c)
          spread_cell(sorted[g * cells + c], packed + b * slab + g * kSources * 9 * kLanes, sums + offsets[c], s.line);
      const __mmask16 lanes = first_lanes(s.inputs - b * kLanes);
      for (Int i = 0; i < tile.images; ++i)
        for (Int y = 0; y < s.height; ++y)
          for (Int x = 0; x < s.width; ++x)
            _mm512_mask_storeu_ps(
                result->typed_data() + (((tile.image + i) * s.height + y) * s.width + x) * s.inputs + b * kLanes, lanes,
                _mm512_load_ps(sums + i * tile.area + (y + 1) * s.line + (x + 1) * kLanes));
    }
  });
  return ffi::Error::Success();
}

// ---- gradient of the weights and the bias ---------------------------------------------------------------------------

struct Entry {
  int32_t offset;  // bytes to the input under the kernel's first tap
  float value;
};

// For each of 16 outputs the list of its gradients that flow somewhere; lists are `capacity` apart. Adds to the bias.
void list(const Shape& s, const Tile& tile, const int32_t* offsets, const float* gradient, const uint8_t* chosen,
          __mmask16 lanes, Int capacity, Entry* lists, int32_t* lengths, __m512& bias) {
  const __m512i start = multiples(capacity);
  const int32_t right = s.position * sizeof(float), down = s.line * sizeof(float);
  const __m512i moves = _mm512_setr_epi32(0, right, down, down + right, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
  __m512i end = start;
  for (Int c = 0; c < tile.cells; ++c) {
    const Int at = (tile.first_cell + c) * s.outputs;
    const __m512 value = _mm512_maskz_loadu_ps(lanes, gradient + at);
    alignas(16) uint8_t place[kLanes] = {};
    std::memcpy(place, chosen + at, lanes == 0xffff ? kLanes : _mm_popcnt_u32(lanes));
    const __m512i where = _mm512_cvtepu8_epi32(_mm_load_si128(reinterpret_cast<const __m128i*>(place)));
    const __mmask16 on = _mm512_mask_cmplt_epi32_mask(lanes, where, _mm512_set1_epi32(4));
    bias = _mm512_mask_add_ps(bias, on, bias, value);
    const __m512i offset =
        _mm512_add_epi32(_mm512_set1_epi32(offsets[c] * sizeof(float)), _mm512_permutexvar_epi32(where, moves));
    const auto write = [&](__mmask8 mask, __m256i index, __m256i low, __m256i high) {
      const __m512i entry =
          _mm512_or_si512(_mm512_cvtepu32_epi64(low), _mm512_slli_epi64(_mm512_cvtepu32_epi64(high), 32));
      _mm512_mask_i32scatter_epi64(lists, mask, index, entry, sizeof(Entry));
    };
    const __m512i bits = _mm512_castps_si512(value);
    write(on & 0xff, _mm512_castsi512_si256(end), _mm512_castsi512_si256(offset), _mm512_castsi512_si256(bits));
    write(on >> 8, _mm512_extracti64x4_epi64(end, 1), _mm512_extracti64x4_epi64(offset, 1),
          _mm512_extracti64x4_epi64(bits, 1));
    end = _mm512_mask_add_epi32(end, on, end, _mm512_set1_epi32(1));
  }
  _mm512_storeu_si512(lengths, _mm512_sub_epi32(end, start));
}

// sums[3 kernel rows][registers]: a kernel row's three columns are neighbours in memory. `together` entries at once,
// where one alone has too few sums to keep the multipliers busy.
template <int registers, int together>
void accumulate(const Entry* list, Int length, const float* x, Int line, float* out) {
  constexpr int kSums = 3 * registers;
  __m512 sums[together][kSums];
  for (int i = 0; i < kSums; ++i) {
    sums[0][i] = _mm512_load_ps(out + i * kLanes);
    for (int t = 1; t < together; ++t) sums[t][i] = _mm512_setzero_ps();
  }
  const auto add = [&](const Entry& entry, __m512* sums) {
    const __m512 value = _mm512_set1_ps(entry.value);
    const float* at = reinterpret_cast<const float*>(reinterpret_cast<const char*>(x) + entry.offset);
#pragma GCC unroll 9
    for (int i = 0; i < kSums; ++i)
      sums[i] = _mm512_fmadd_ps(value, _mm512_loadu_ps(at + i / registers * line + i % registers * kLanes), sums[i]);
  };
  Int e = 0;
  for (; e + together <= length; e += together) {
#pragma GCC unroll 4
    for (int t = 0; t < together; ++t) add(list[e + t], sums[t]);
  }
  for (; e < length; ++e) add(list[e], sums[0]);
  for (int i = 0; i < kSums; ++i) {
    for (int t = 1; t < together; ++t) sums[0][i] = _mm512_add_ps(sums[0][i], sums[t][i]);
    _mm512_store_ps(out + i * kLanes, sums[0][i]);
  }
}

ffi::Error weight_gradient(ffi::ThreadPool pool, Floats x, Floats gradient, Bytes chosen, ffi::Result<Floats> result,
                           ffi::Result<Floats> bias) {
  const Shape s(x, gradient.dimensions()[3]);
  const Int registers = ceil_div(3 * s.block, kLanes), sum = 3 * registers * kLanes, size = 9 * s.inputs * s.outputs;
  const auto add = registers == 1 ? accumulate<1, 4> : registers == 2 ? accumulate<2, 2> : accumulate<3, 1>;
  const Tiling cut(s, 1, kNear, false);
  const Int width = s.outputs < 512 ? 32 : 64, ranges = ceil_div(s.outputs, width);
  // Few outputs: the tiles are shared out too, and the shares' sums added in order.
  const Int shares = std::min(cut.count, ceil_div(kParts, ranges));
  const Int whole = size + s.outputs;
  float* partial = shares > 1 ? scratch<0>(shares * whole) : nullptr;
  parallel(pool, ranges * shares, [&](Int part) {
    const Int share = part / ranges, from = part % ranges * width, to = std::min(s.outputs, from + width);
    const Int area = (2 * cut.rows + 2) * s.line, cells = cut.images * cut.rows * s.columns;
    const Int capacity = (ceil_div(cells, 8) | 1) * 8;  // an odd number of cache lines: lists spread over the cache
    const Int all_sums = s.blocks * width * sum;
    const Int padded_size = ceil_div(cut.images * area, kLanes) * kLanes + 3 * kLanes;
    float* sums = scratch<1>(all_sums + padded_size + cells + 2 * (capacity + 1) * width);
    float *padded = sums + all_sums, *bias_sums = padded + padded_size;
    int32_t *lengths = reinterpret_cast<int32_t*>(bias_sums + width), *offsets = lengths + width;
    Entry* lists = reinterpret_cast<Entry*>(offsets + cells);
    std::memset(sums, 0, all_sums * sizeof(float));
    std::memset(bias_sums, 0, width * sizeof(float));
    for (Int index = cut.count * share / shares; index < cut.count * (share + 1) / shares; ++index) {
      const Tile tile(s, cut, index);
      tile.offsets(s, tile.area, offsets);
      for (Int o = from; o < to; o += kLanes) {
        __m512 bias_sum = _mm512_loadu_ps(bias_sums + o - from);
        list(s, tile, offsets, gradient.typed_data() + o, chosen.typed_data() + o, first_lanes(to - o), capacity,
             lists + (o - from) * capacity, lengths + o - from, bias_sum);
        _mm512_storeu_ps(bias_sums + o - from, bias_sum);
      }
      for (Int b = 0; b < s.blocks; ++b) {
        for (Int i = 0; i < tile.images; ++i)
          pad(s, tile, x.typed_data(), tile.image + i, b, padded + i * tile.area);
        for (Int o = 0; o < to - from; ++o)
          add(lists + o * capacity, lengths[o], padded, s.line, sums + (b * width + o) * sum);
      }
    }
    float* out = partial ? partial + share * whole : result->typed_data();
    std::memcpy((partial ? out + size : bias->typed_data()) + from, bias_sums, (to - from) * sizeof(float));
    for (Int tap = 0; tap < 9; ++tap)
      for (Int input = 0; input < s.inputs; ++input) {
        const float* in = sums + input / kLanes * width * sum + tap / 3 * registers * kLanes + tap % 3 * s.block;
        for (Int o = 0; o < to - from; o += kLanes)
          _mm512_mask_storeu_ps(out + (tap * s.inputs + input) * s.outputs + from + o, first_lanes(to - from - o),
                                _mm512_i32gather_ps(multiples(sum), in + o * sum + input % kLanes, 4));
      }
  });
  if (partial) {
    for (Int share = 1; share < shares; ++share)
      for (Int i = 0; i < whole; ++i) partial[i] += partial[share * whole + i];
    std::memcpy(result->typed_data(), partial, size * sizeof(float));
    std::memcpy(bias->typed_data(), partial + size, s.outputs * sizeof(float));
  }
  return ffi::Error::Success();
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(wing_jax_conv_pool, forward,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<Floats>()
                                  .Arg<Floats>()
                                  .Arg<Floats>()
                                  .Ret<Floats>()
                                  .Ret<Bytes>()
                                  .Attr<bool>("relu"));
XLA_FFI_DEFINE_HANDLER_SYMBOL(
    wing_jax_conv_pool_input, input_gradient,
    ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<Floats>().Arg<Bytes>().Arg<Floats>().Ret<Floats>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(
    wing_jax_conv_pool_weights, weight_gradient,
    ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<Floats>().Arg<Floats>().Arg<Bytes>().Ret<Floats>().Ret<Floats>());
