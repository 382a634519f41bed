// Sixteen lanes, bfloat16 and the tiles of Intel's AMX.

#pragma once

#include <immintrin.h>

#include <cstring>

#include "cpu_kernel.h"

namespace wing_jax {
namespace {

using Word = uint32_t;  // two of Half

constexpr Int kTile = 16;         // rows of a tile, and words or floats in each
constexpr Int kStep = 2 * kTile;  // rows, columns and products of a step

typedef float Vector __attribute__((vector_size(kTile * sizeof(float))));
typedef Word Words __attribute__((vector_size(kTile * sizeof(Word))));
typedef Half Halves __attribute__((vector_size(kTile * sizeof(Half))));
typedef uint8_t Small __attribute__((vector_size(kTile)));

// Loads 16 lanes, or the first `count` and zeros.
template <typename Lanes>
inline Lanes load(const void* at, Int count = kTile) {
  Lanes lanes = {};
  if (count >= kTile)
    std::memcpy(&lanes, at, sizeof lanes);
  else if (count > 0)
    std::memcpy(&lanes, at, count * sizeof lanes[0]);
  return lanes;
}

template <typename Lanes>
inline void store(void* at, const Lanes& lanes, Int count = kTile) {
  if (count >= kTile)
    std::memcpy(at, &lanes, sizeof lanes);
  else
    std::memcpy(at, &lanes, count * sizeof lanes[0]);
}

inline Words join(Halves first, Halves second) {
  return __builtin_convertvector(first, Words) | __builtin_convertvector(second, Words) << 16;
}

inline Vector widen(Halves values) {
  const Words bits = join(Halves{}, values);
  return load<Vector>(&bits);
}

// Rounds to the nearest, ties to even.
inline Halves narrow(Vector values) {
  const Words bits = load<Words>(&values), nearest = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
  return __builtin_convertvector(values == values ? nearest : 0x7fc0 - Words{}, Halves);
}

// Swaps row i's words j + distance with row i + distance's words j, where i and j lack the bit `distance`.
template <Word distance>
inline void exchange(__m512i rows[kTile]) {
  const Words word = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  const __m512i one = __m512i((word & distance) != 0 ? word - distance + kTile : word);
  const __m512i two = __m512i((word & distance) != 0 ? word + kTile : word + distance);
#pragma GCC unroll 16
  for (Word i = 0; i < kTile; ++i)
    if (!(i & distance)) {
      const __m512i row = rows[i], other = rows[i + distance];
      rows[i] = _mm512_permutex2var_epi32(row, one, other);
      rows[i + distance] = _mm512_permutex2var_epi32(row, two, other);
    }
}

// out[i][j] = in[j][i], 16 x 16 words.
inline void transpose(const void* in, Int in_stride, void* out, Int out_stride) {
  __m512i rows[kTile];
#pragma GCC unroll 16
  for (Int i = 0; i < kTile; ++i) rows[i] = _mm512_loadu_si512(static_cast<const Word*>(in) + i * in_stride);
  exchange<1>(rows);
  exchange<2>(rows);
  exchange<4>(rows);
  exchange<8>(rows);
#pragma GCC unroll 16
  for (Int i = 0; i < kTile; ++i) _mm512_storeu_si512(static_cast<Word*>(out) + i * out_stride, rows[i]);
}

// Configures this thread's eight tiles as 16 rows of 64 bytes during its lifetime.
struct Tiles {
  Tiles() {
    struct alignas(64) {
      uint8_t palette = 1, unused[15] = {};
      uint16_t bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
      uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
    } config;
    asm volatile("" : : "m"(config));
    _tile_loadconfig(&config);
  }
  ~Tiles() { _tile_release(); }
};

// A step: sums[32][32] += a[32][32] b[32][32], with two tiles `a` of 16 rows of 32 values and two tiles `b` of 16
// columns, in which a word holds the values of two neighboring rows. The sums are tiles 0 .. 3.
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

// Not all compilers know that tile instructions read memory: a barrier completes earlier writes before sums start.
inline void zero_sums() {
  asm volatile("" : : : "memory");
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
}

}  // namespace
}  // namespace wing_jax
