// 3 x 3 same convolution in float32, alone or with 2 x 2 max-pool, bias and ReLU, and its gradients.
//
// One source for all processors: it uses the compiler's vector types (`vector_size`) and is compiled once for each
// instruction set, with the flags of the set and with WING_JAX_SET as its name. `table` has the differences.
//
// Arrays are NHWC, weights HWIO. A "cell" is 2 x 2 outputs, which depend on 4 x 4 inputs; with pooling it is one output
// position. The forward pass then writes only the largest of a cell's four sums and its index (0..3 in row order, the
// first of equals; 4 if ReLU is 0), so the maps before the pooling are never stored. Only one of the four has a
// gradient, so both backward passes need a quarter of the multiplications of a plain convolution, or fewer after ReLU.
//
// Every pass copies the input one tile (some images, or some rows of one) at a time into zero-padded blocks of `kLanes`
// channels, [block][row][column][channel], that stay in cache and need no border cases.
// The division of the work depends only on the shape. Each part writes its own outputs and sums in a fixed order, so
// results do not depend on the number of threads or their timing.

#include "cpu_kernel_parts.h"
#include "cpu_kernel_vectors.h"

#include <utility>

namespace wing_jax {
namespace {

struct Tiles {
  Int pairs;      // pairs of neighboring positions that the forward pass computes at once ...
  Int registers;  // ... times registers of outputs for each: the sums, which must leave some registers free
};

namespace table {
[[maybe_unused]] constexpr Tiles avx512 = {6, 2},  // 24 sums in 32 registers
    avx2 = {3, 2},                                 // 12 sums in 16 registers
    neon = {6, 2};                                 // 24 sums in 32 registers
}  // namespace table

constexpr Int kPairs = table::WING_JAX_SET.pairs;
constexpr Int kRegisters = table::WING_JAX_SET.registers;
constexpr Int kOutputs = kRegisters * kLanes;                // outputs of one forward pass over some positions
constexpr Int kTogether = 2 * kPairs;                        // positions, or cells of transformed ones
constexpr Int kCells = kPairs % 2 ? kPairs : kPairs / 2;     // cells, of two pairs, that fill complete passes
constexpr Int kSources = 64;                                 // outputs whose weights for a block fit the L1 cache
constexpr Int kNear = 42 << 10, kFar = 512 << 10;            // bytes of a tile: in the L1 cache, in the L2 cache
constexpr Int kUnit = kTogether / 3;                         // transformed cells whose number is a multiple of it
constexpr Int kManyCells = 32;                               // from which all parts share transformed weights
constexpr Int kNearCells = 32;                               // cells whose gradients fit the L1 cache

typedef int32_t Ints __attribute__((vector_size(kLanes * sizeof(int32_t))));
typedef uint8_t Small __attribute__((vector_size(kLanes)));

template <int half, int... lane>
inline void exchange(Vector& a, Vector& b, std::integer_sequence<int, lane...>) {
  const Vector first = a;
#ifdef __clang__
  a = __builtin_shufflevector(first, b, (lane & half ? kLanes + lane - half : lane)...);
  b = __builtin_shufflevector(first, b, (lane & half ? kLanes + lane : lane + half)...);
#else
  a = __builtin_shuffle(first, b, Ints{(lane & half ? int(kLanes) + lane - half : lane)...});
  b = __builtin_shuffle(first, b, Ints{(lane & half ? int(kLanes) + lane : lane + half)...});
#endif
}

// rows[i][j] becomes rows[j][i], of `kLanes` rows.
template <int half = 1>
inline void transpose(Vector* rows) {
  if constexpr (half < kLanes) {
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; ++i)
      if (!(i & half)) exchange<half>(rows[i], rows[i + half], std::make_integer_sequence<int, kLanes>());
    transpose<2 * half>(rows);
  }
}

// The input's shape, its cells (of 2 x 2 positions, or of one) and its padded blocks.
struct Shape : Size {
  Int side;            // of a cell, in positions
  Int rows, columns;   // of cells
  Int block, blocks;   // channels of an input block, their number
  Int position, line;  // floats to the next column and row of a block

  Shape(const Size& size, Int side, Int block)
      : Size(size), side(side), rows(ceil_div(height, side)), columns(ceil_div(width, side)), block(block),
        blocks(ceil_div(inputs, kLanes)), position(block), line((width + 2) * block) {}
};

// The division of the cells into tiles: `images` complete images, or strips of `rows` rows of cells of one image. At
// least one tile, which may be empty: without images the weights' gradient is 0.
struct Tiling {
  Int images, rows, strips, count;

  Tiling(const Shape& s, Int blocks, Int bytes, bool whole) {
    const Int fitting = bytes / (blocks * s.line * Int(sizeof(float)));
    strips = whole ? 1 : min(s.rows, ceil_div(s.rows, max(1, (fitting - 2) / s.side)));
    if (!whole) strips = max(strips, min(s.rows, ceil_div(kParts, max(1, s.images))));
    rows = ceil_div(s.rows, strips);
    strips = ceil_div(s.rows, rows);
    images = strips > 1 ? 1 : max(1, min(s.images, fitting / (s.height + 2)));
    count = max(1, ceil_div(s.images, images)) * strips;
  }
};

struct Tile {
  Int image, images, row, rows, cells, first_cell;
  Int area;  // floats of one block of one image

  Tile(const Shape& s, const Tiling& cut, Int index) {
    image = index / cut.strips * cut.images;
    images = min(cut.images, s.images - image);
    row = index % cut.strips * cut.rows;
    rows = min(cut.rows, s.rows - row);
    cells = images * rows * s.columns;
    first_cell = (image * s.rows + row) * s.columns;
    area = (s.side * rows + 2) * s.line;
  }

  // Offsets of the first input of each cell, in units of 1 / `scale` floats; images are `stride` floats apart.
  void offsets(const Shape& s, Int stride, Int scale, int32_t* out) const {
    for (Int i = 0; i < images; ++i)
      for (Int y = 0; y < rows; ++y)
        for (Int x = 0; x < s.columns; ++x)
          *out++ = scale * (i * stride + s.side * y * s.line + s.side * x * s.position);
  }
};

// Copies one block of channels of one image's rows of a tile, with a border of zeros.
void pad(const Shape& s, const Tile& tile, const float* x, Int image, Int block, float* out) {
  const Int from = block * kLanes, count = min(s.block, s.inputs - from);
  for (Int y = s.side * tile.row - 1; y < s.side * (tile.row + tile.rows) + 1; ++y, out += s.line) {
    if (y < 0 || y >= s.height) {
      std::memset(out, 0, s.line * sizeof(float));
      continue;
    }
    const float* in = x + (image * s.height + y) * s.width * s.inputs + from;
    std::memset(out, 0, s.block * sizeof(float));
    if (count == kLanes)
      for (Int column = 0; column < s.width; ++column)
        store(out + (column + 1) * kLanes, load_loose(in + column * s.inputs));
    else if (count == s.inputs && count == s.block)
      std::memcpy(out + s.block, in, s.width * s.block * sizeof(float));
    else
      for (Int column = 0; column < s.width; ++column)
        for (Int i = 0; i < s.block; ++i)
          out[(column + 1) * s.block + i] = i < count ? in[column * s.inputs + i] : 0;
    std::memset(out + (s.width + 1) * s.block, 0, s.block * sizeof(float));
  }
}

// ---- forward --------------------------------------------------------------------------------------------------------

// Packs weights as [`kOutputs` outputs][block][kernel row][column and input][output], the order of the loop below.
void pack_forward(const Shape& s, const float* weights, Int group, float* out) {
  const Int from = group * kOutputs;
  for (Int b = 0; b < s.blocks; ++b)
    for (Int tap = 0; tap < 9; ++tap)
      for (Int i = 0; i < s.block; ++i, out += kOutputs) {
        const Int input = b * kLanes + i;
        const float* in = weights + (tap * s.inputs + input) * s.outputs + from;
        for (Int r = 0; r < kRegisters; ++r)
          store(out + r * kLanes, load_first(in + r * kLanes, input < s.inputs ? s.outputs - from - r * kLanes : 0));
      }
}

// Computes the sums of `kPairs` pairs of neighboring positions for `registers` registers of outputs, as
// [position][output]. The three columns of a kernel row are neighbors in memory, so one loop covers them.
template <Int registers>
void convolve(const Shape& s, Int area, const float* const* pairs, const float* w, float* out) {
  Vector sums[kPairs][2][registers];
#pragma GCC unroll 6
  for (Int i = 0; i < kPairs; ++i)
#pragma GCC unroll 4
    for (Int r = 0; r < registers; ++r) sums[i][0][r] = sums[i][1][r] = Vector{};
  const Int right = s.position, length = 3 * s.block;
  for (Int b = 0; b < s.blocks; ++b)
    for (Int row = 0; row < 3; ++row) {
      const Int at = b * area + row * s.line;
      const float* x[kPairs];
#pragma GCC unroll 6
      for (Int i = 0; i < kPairs; ++i) x[i] = pairs[i] + at;
      for (Int k = 0; k < length; ++k, w += kOutputs) {
        Vector weight[registers];
#pragma GCC unroll 4
        for (Int r = 0; r < registers; ++r) weight[r] = load(w + r * kLanes);
#pragma GCC unroll 6
        for (Int i = 0; i < kPairs; ++i) {
          const Vector one = spread(x[i][k]);
#pragma GCC unroll 4
          for (Int r = 0; r < registers; ++r) sums[i][0][r] += one * weight[r];
          const Vector two = spread(x[i][k + right]);
#pragma GCC unroll 4
          for (Int r = 0; r < registers; ++r) sums[i][1][r] += two * weight[r];
        }
      }
    }
#pragma GCC unroll 6
  for (Int i = 0; i < kPairs; ++i)
#pragma GCC unroll 4
    for (Int r = 0; r < registers; ++r) {
      store(out + 2 * i * kOutputs + r * kLanes, sums[i][0][r]);
      store(out + (2 * i + 1) * kOutputs + r * kLanes, sums[i][1][r]);
    }
}

// Computes a register of pooled outputs from the cell's four sums, `kOutputs` apart.
inline void pool(const float* sums, Vector bias, bool relu, Int count, float* out, uint8_t* chosen) {
  Vector best = load(sums);
  Ints which = {};
  for (int p = 1; p < 4; ++p) {
    const Vector value = load(sums + p * kOutputs);
    const Ints better = (value > best) | (value != value);  // NaN counts as the largest, so that it is not lost
    best = better ? value : best;
    which = better ? p - Ints{} : which;
  }
  best += bias;
  if (relu) {
    which = best > 0 ? which : kDead - Ints{};
    best = best <= 0 ? Vector{} : best;
  }
  store_first(out, count, best);
  const Small bytes = __builtin_convertvector(which, Small);
  std::memcpy(chosen, &bytes, min(count, kLanes));
}

// Calls body(tile, its padded input, offsets of its cells, first group of outputs, end of the groups) for every part.
// `whole`: whether a tile is at least one image, so that more parts differ in their outputs than in their cells.
template <typename Body>
void over_tiles(const Threads& threads, const Shape& s, const float* x, Int groups, bool whole, const Body& body) {
  const Tiling cut(s, s.blocks, kFar, whole);
  const Int splits = min(groups, ceil_div(kParts, cut.count));
  parallel(threads, cut.count * splits, [&](Int part) {
    const Tile tile(s, cut, part / splits);
    const Int split = part % splits, stride = s.blocks * tile.area;
    const Int size = tile.images * stride + 2 * kLanes;  // the second position of a pair may be beyond the last
    float* padded = scratch<1>(size + tile.cells);
    int32_t* offsets = reinterpret_cast<int32_t*>(padded + size);
    tile.offsets(s, stride, 1, offsets);
    for (Int i = 0; i < tile.images; ++i)
      for (Int b = 0; b < s.blocks; ++b) pad(s, tile, x, tile.image + i, b, padded + i * stride + b * tile.area);
    body(tile, padded, offsets, groups * split / splits, groups * (split + 1) / splits);
  });
}

// Calls done(group, cell, its four sums as [position][output]) for every cell and group of `kOutputs` outputs.
template <typename Done>
void forward_directly(const Threads& threads, const Shape& s, const float* x, const float* weights, const Done& done) {
  const Int groups = ceil_div(s.outputs, kOutputs), slab = s.blocks * 9 * s.block * kOutputs;
  float* packed = scratch<0>(groups * slab);
  parallel(threads, groups, [&](Int g) { pack_forward(s, weights, g, packed + g * slab); });
  over_tiles(threads, s, x, groups, false,
             [&](const Tile& tile, const float* padded, const int32_t* offsets, Int begin, Int end) {
    for (Int g = begin; g < end; ++g) {
      const auto sum = s.outputs - g * kOutputs > kOutputs - kLanes ? convolve<kRegisters> : convolve<1>;
      for (Int first = 0; first < tile.cells; first += kCells) {
        const float* pairs[2 * kCells];
        for (Int i = 0; i < 2 * kCells; ++i)
          pairs[i] = padded + offsets[min(first + i / 2, tile.cells - 1)] + i % 2 * s.line;
        alignas(64) float sums[4 * kCells * kOutputs];
        for (Int i = 0; i < 2 * kCells; i += kPairs)
          sum(s, tile.area, pairs + i, packed + g * slab, sums + 2 * i * kOutputs);
        for (Int c = 0; c < kCells && first + c < tile.cells; ++c)
          done(g, tile.first_cell + first + c, sums + 4 * c * kOutputs);
      }
    }
  });
}

// ---- forward by Winograd's algorithm --------------------------------------------------------------------------------
//
// F(2 x 2, 3 x 3) of Lavin and Gray (CVPR 2016, arXiv:1509.09308): a cell's 4 x 4 inputs and the kernel are transformed
// to 16 values each. These are multiplied, summed over the inputs, and transformed to the cell's 2 x 2 outputs: 16
// multiplications instead of 36.

// Requests the weights of input `i` of a block, whose lines are far apart, so that they arrive during other work.
inline void prefetch_weights(const Shape& s, const float* weights, Int group, Int block, Int i) {
  const float* at = weights + (block * kLanes + i) * s.outputs + group * kOutputs;
#pragma GCC unroll 9
  for (Int tap = 0; tap < 9; ++tap)
    for (Int line = 0; line < kOutputs; line += 16) __builtin_prefetch(at + tap * s.inputs * s.outputs + line);
}

// out[16][input][output], `stride` apart, for the inputs of a block and a group of outputs.
void transform_weights(const Shape& s, const float* weights, Int group, Int block, Int stride, float* out) {
  for (Int i = 0; i < kLanes; ++i)
    for (Int r = 0; r < kRegisters; ++r) {
      const Int input = block * kLanes + i, output = group * kOutputs + r * kLanes;
      const Int count = input < s.inputs ? s.outputs - output : 0;
      Vector half[4][3];
      for (Int x = 0; x < 3; ++x) {
        Vector w[3];
        for (Int y = 0; y < 3; ++y)
          w[y] = load_first(weights + ((y * 3 + x) * s.inputs + input) * s.outputs + output, count);
        half[0][x] = w[0], half[3][x] = w[2];
        half[1][x] = (w[0] + w[2] + w[1]) * 0.5f, half[2][x] = (w[0] + w[2] - w[1]) * 0.5f;
      }
      float* at = out + i * kOutputs + r * kLanes;
      for (Int y = 0; y < 4; ++y, at += 4 * stride) {
        const Vector outer = half[y][0] + half[y][2];
        store(at, half[y][0]), store(at + 3 * stride, half[y][2]);
        store(at + stride, (outer + half[y][1]) * 0.5f), store(at + 2 * stride, (outer - half[y][1]) * 0.5f);
      }
    }
}

// out[16], `stride` apart, from the 4 x 4 inputs of a cell, for the inputs of a block.
inline void transform_inputs(const float* in, Int line, Int stride, float* out) {
  Vector half[4][4];
#pragma GCC unroll 4
  for (Int x = 0; x < 4; ++x) {
    const float* at = in + x * kLanes;
    const Vector d[4] = {load(at), load(at + line), load(at + 2 * line), load(at + 3 * line)};
    half[0][x] = d[0] - d[2], half[1][x] = d[1] + d[2], half[2][x] = d[2] - d[1], half[3][x] = d[1] - d[3];
  }
#pragma GCC unroll 4
  for (Int y = 0; y < 4; ++y, out += 4 * stride) {
    store(out, half[y][0] - half[y][2]), store(out + stride, half[y][1] + half[y][2]);
    store(out + 2 * stride, half[y][2] - half[y][1]), store(out + 3 * stride, half[y][1] - half[y][3]);
  }
}

// out[4 positions], `kOutputs` apart, from in[16], `stride` apart, for a register of outputs.
inline void transform_outputs(const float* in, Int stride, float* out) {
  Vector half[2][4];
#pragma GCC unroll 4
  for (Int x = 0; x < 4; ++x) {
    const float* at = in + x * stride;
    const Vector inner = load(at + 4 * stride), next = load(at + 8 * stride);
    half[0][x] = load(at) + inner + next, half[1][x] = inner - next - load(at + 12 * stride);
  }
#pragma GCC unroll 2
  for (Int y = 0; y < 2; ++y) {
    store(out + 2 * y * kOutputs, half[y][0] + half[y][1] + half[y][2]);
    store(out + (2 * y + 1) * kOutputs, half[y][1] - half[y][2] - half[y][3]);
  }
}

// sums[cell][output] for `cells` cells and `registers` registers of outputs, added to those in `out` unless they are the
// `first`. Blocks of inputs are `stride` apart.
template <Int cells, Int registers>
void multiply(Int blocks, Int stride, const float* inputs, const float* weights, bool first, float* out) {
  Vector sums[cells][registers];
#pragma GCC unroll 16
  for (Int c = 0; c < cells; ++c)
#pragma GCC unroll 4
    for (Int r = 0; r < registers; ++r) sums[c][r] = first ? Vector{} : load(out + c * kOutputs + r * kLanes);
  for (Int b = 0; b < blocks; ++b, inputs += stride)
    for (Int k = 0; k < kLanes; ++k, weights += kOutputs) {
      Vector weight[registers];
#pragma GCC unroll 4
      for (Int r = 0; r < registers; ++r) weight[r] = load(weights + r * kLanes);
#pragma GCC unroll 16
      for (Int c = 0; c < cells; ++c) {
        const Vector value = spread(inputs[c * kLanes + k]);
#pragma GCC unroll 4
        for (Int r = 0; r < registers; ++r) sums[c][r] += value * weight[r];
      }
    }
#pragma GCC unroll 16
  for (Int c = 0; c < cells; ++c)
#pragma GCC unroll 4
    for (Int r = 0; r < registers; ++r) store(out + c * kOutputs + r * kLanes, sums[c][r]);
}

// The same for any number of cells, rounded up to a multiple of `kUnit`.
template <Int registers>
void multiply(Int cells, Int blocks, Int stride, const float* inputs, const float* weights, bool first, float* out) {
  for (Int c = 0; c < cells; c += kTogether) {
    const auto some = cells - c > 2 * kUnit ? multiply<3 * kUnit, registers>
                      : cells - c > kUnit   ? multiply<2 * kUnit, registers>
                                            : multiply<kUnit, registers>;
    some(blocks, stride, inputs + c * kLanes, weights, first, out + c * kOutputs);
  }
}

template <typename Done>
void forward_transformed(const Threads& threads, const Shape& s, const float* x, const float* weights,
                         const Done& done) {
  const Int groups = ceil_div(s.outputs, kOutputs), inputs = s.blocks * kLanes;
  const Int odd = 16;  // floats, so that the 16 strided arrays use different cache lines
  const bool many = s.images * s.rows * s.columns >= kManyCells;
  const Int together = many ? s.blocks : 1;  // blocks whose weights are transformed before they are used
  const Int kernel = together * kLanes * kOutputs + odd, slab = 16 * kernel;
  float* shared = many ? scratch<0>(groups * slab) : nullptr;
  if (many)
    parallel(threads, groups * s.blocks, [&](Int part) {
      const Int g = part / s.blocks, b = part % s.blocks;
      transform_weights(s, weights, g, b, kernel, shared + g * slab + b * kLanes * kOutputs);
    });
  const Int passes = max(1, min(4, kFar / (2 * 16 * inputs * kTogether * Int(sizeof(float)))));
  const Int cells = passes * kTogether;
  const Int in_stride = cells * inputs + odd, out_stride = cells * kOutputs + odd;
  over_tiles(threads, s, x, groups, !many,
             [&](const Tile& tile, const float* padded, const int32_t* offsets, Int begin, Int end) {
    float* in = scratch<2>(16 * (in_stride + out_stride));
    float* out = in + 16 * in_stride;
    float* own = many ? nullptr : scratch<0>(slab);
    for (Int first = 0; first < tile.cells; first += cells) {
      const Int real = min(cells, tile.cells - first), count = ceil_div(real, kUnit) * kUnit;
      for (Int b = 0; b < s.blocks; ++b)
        for (Int c = 0; c < count; ++c)
          transform_inputs(padded + offsets[min(first + c, tile.cells - 1)] + b * tile.area, s.line, in_stride,
                           in + (b * cells + c) * kLanes);
      for (Int g = begin; g < end; ++g) {
        const bool few = s.outputs - g * kOutputs <= kOutputs - kLanes;
        const float* packed = many ? shared + g * slab : own;
        for (Int b = 0; b < s.blocks; b += together) {
          if (!many) transform_weights(s, weights, g, b, kernel, own);
          const bool last = b + together == s.blocks;
          for (Int i = 0; i < 16; ++i) {
            if (!many && i < kLanes && g + last < end) prefetch_weights(s, weights, g + last, last ? 0 : b + 1, i);
            (few ? multiply<1> : multiply<kRegisters>)(count, together, cells * kLanes,
                                                       in + i * in_stride + b * cells * kLanes, packed + i * kernel,
                                                       b == 0, out + i * out_stride);
          }
        }
        for (Int c = 0; c < real; ++c) {
          alignas(64) float sums[4 * kOutputs];
          for (Int r = 0; r < (few ? 1 : kRegisters); ++r)
            transform_outputs(out + c * kOutputs + r * kLanes, out_stride, sums + r * kLanes);
          done(g, tile.first_cell + first + c, sums);
        }
      }
    }
  });
}

// With few inputs most of a register would be unused; with one cell, transforming the weights is slower.
template <typename Done>
void forward(const Threads& threads, const Shape& s, const float* x, const float* weights, const Done& done) {
  if (s.block < kLanes || s.images * s.rows * s.columns < 2)
    forward_directly(threads, s, x, weights, done);
  else
    forward_transformed(threads, s, x, weights, done);
}

void conv_pool(const Threads& threads, const Size& size, const float* x, const float* weights, const float* bias,
               bool relu, float* pooled, uint8_t* chosen) {
  const Shape s(size, 2, min(size.inputs, kLanes));
  forward(threads, s, x, weights, [&](Int group, Int cell, const float* sums) {
    for (Int r = 0; r < kRegisters; ++r) {
      const Int output = group * kOutputs + r * kLanes, at = cell * s.outputs + output, count = s.outputs - output;
      if (count > 0)
        pool(sums + r * kLanes, load_first(bias + output, count), relu, count, pooled + at, chosen + at);
    }
  });
}

void conv(const Threads& threads, const Size& size, const float* x, const float* weights, float* y) {
  const Shape s(size, 2, min(size.inputs, kLanes));
  forward(threads, s, x, weights, [&](Int group, Int cell, const float* sums) {
    const Int column = cell % s.columns * 2, line = cell / s.columns;
    const Int row = line % s.rows * 2, image = line / s.rows, from = group * kOutputs;
    for (Int p = 0; p < 4; ++p) {
      const Int right = column + p % 2, down = row + p / 2;
      if (right == s.width || down == s.height) continue;
      float* out = y + ((image * s.height + down) * s.width + right) * s.outputs;
      for (Int o = from; o < min(from + kOutputs, s.outputs); o += kLanes)
        store_first(out + o, s.outputs - o, load(sums + p * kOutputs + o - from));
    }
  });
}

// The input's gradient is a convolution of the output's gradient, with the kernel rotated by 180 degrees.
void conv_input(const Threads& threads, const Size& size, const float* gradient, const float* weights, float* result) {
  const Int inputs = size.inputs, outputs = size.outputs;
  float* turned = scratch<3>(9 * inputs * outputs);
  for (Int tap = 0; tap < 9; ++tap)
    for (Int o = 0; o < outputs; ++o)
      for (Int i = 0; i < inputs; ++i)
        turned[(tap * outputs + o) * inputs + i] = weights[((8 - tap) * inputs + i) * outputs + o];
  conv(threads, {size.images, size.height, size.width, outputs, inputs}, gradient, turned, result);
}

// ---- gradient of the input, with pooling ----------------------------------------------------------------------------

// Packs weights as [block][output][tap][`kLanes` inputs], with zeros beyond the last input.
void pack_backward(const Shape& s, const float* weights, Int block, float* out) {
  const Int from = block * kLanes;
  for (Int first = 0; first < s.outputs; first += kLanes)
    for (Int tap = 0; tap < 9; ++tap) {
      Vector rows[kLanes];
#pragma GCC unroll 16
      for (Int i = 0; i < kLanes; ++i)
        rows[i] = load_first(weights + (tap * s.inputs + from + i) * s.outputs + first,
                             from + i < s.inputs ? s.outputs - first : 0);
      transpose(rows);
      for (Int o = 0; o < min(kLanes, s.outputs - first); ++o) store(out + ((first + o) * 9 + tap) * kLanes, rows[o]);
    }
}

struct Entry {
  int32_t offset;  // bytes: to the output's weights, or to the input under the kernel's first tap
  float value;     // of the gradient
};

// A cell's gradients of `kSources` outputs by the position that they flow to. Two lists share an array, one from
// its start and one from its end: entries begin[p] to end[p] are those of position p.
struct Sorted {
  Entry entries[2 * (kSources + 2) + 1];  // the last one is for gradients that do not flow
  int16_t begin[4], end[4];
};

// The indices of the next entries are fields of 12 bits in one register.
void sort(const float* gradient, const uint8_t* chosen, Int count, Sorted& out) {
  constexpr Int kBytes = 9 * kLanes * sizeof(float);
  constexpr int64_t kFirst = 1, kLast = kSources, kNext = kSources + 2;
  constexpr int64_t steps[kDead + 1] = {1, -(int64_t(1) << 12), int64_t(1) << 24, -(int64_t(1) << 36), 0};
  constexpr int64_t start =
      kFirst | kLast << 12 | (kNext + kFirst) << 24 | (kNext + kLast) << 36 | 2 * kNext << 48;
  int64_t next = start;
  for (Int o = 0; o < count; ++o) {
    out.entries[next >> 12 * chosen[o] & 0xfff] = {int32_t(o * kBytes), gradient[o]};
    next += steps[chosen[o]];
  }
  for (int p = 0; p < 4; ++p) {
    const int from = start >> 12 * p & 0xfff, to = next >> 12 * p & 0xfff;
    out.begin[p] = p % 2 ? to + 1 : from, out.end[p] = p % 2 ? from + 1 : to;
  }
}

// Adds the gradients that flow to position p to the 4 x 4 inputs of a block.
template <int p>
inline void add_entries(const Sorted& sorted, const float* weights, Vector inputs[16]) {
  for (const Entry *e = sorted.entries + sorted.begin[p], *end = sorted.entries + sorted.end[p]; e < end; ++e) {
    const Vector value = spread(e->value);
    const float* w = reinterpret_cast<const float*>(reinterpret_cast<const char*>(weights) + e->offset);
#pragma GCC unroll 9
    for (int tap = 0; tap < 9; ++tap)
      inputs[(p / 2 + tap / 3) * 4 + p % 2 + tap % 3] += value * load(w + tap * kLanes);
  }
}

void add_cell(const Sorted& sorted, const float* weights, float* at, Int line) {
  Vector inputs[16];
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) inputs[i] = load(at + i / 4 * line + i % 4 * kLanes);
  add_entries<0>(sorted, weights, inputs);
  add_entries<1>(sorted, weights, inputs);
  add_entries<2>(sorted, weights, inputs);
  add_entries<3>(sorted, weights, inputs);
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) store(at + i / 4 * line + i % 4 * kLanes, inputs[i]);
}

void conv_pool_input(const Threads& threads, const Size& size, const float* gradient, const uint8_t* chosen,
                     const float* weights, float* result) {
  const Shape s(size, 2, kLanes);
  const Int groups = ceil_div(s.outputs, kSources), slab = s.outputs * 9 * kLanes;
  float* packed = scratch<0>(s.blocks * slab);
  parallel(threads, s.blocks, [&](Int b) { pack_backward(s, weights, b, packed + b * slab); });
  const Tiling cut(s, 1, kNear, true);
  const Int splits = min(s.blocks, ceil_div(kParts, cut.count));
  parallel(threads, cut.count * splits, [&](Int part) {
    const Tile tile(s, cut, part / splits);
    const Int split = part % splits, cells = tile.cells, floats = tile.images * tile.area;
    float* sums = scratch<1>(floats + cells + groups * cells * Int(sizeof(Sorted) / sizeof(float)));
    int32_t* offsets = reinterpret_cast<int32_t*>(sums + floats);
    Sorted* sorted = reinterpret_cast<Sorted*>(offsets + cells);
    tile.offsets(s, tile.area, 1, offsets);
    for (Int c = 0; c < cells; ++c)
      for (Int g = 0; g < groups; ++g) {
        const Int at = (tile.first_cell + c) * s.outputs + g * kSources;
        sort(gradient + at, chosen + at, min(kSources, s.outputs - g * kSources), sorted[g * cells + c]);
      }
    for (Int b = s.blocks * split / splits; b < s.blocks * (split + 1) / splits; ++b) {
      std::memset(sums, 0, floats * sizeof(float));
      for (Int g = 0; g < groups; ++g)
        for (Int c = 0; c < cells; ++c)
          add_cell(sorted[g * cells + c], packed + b * slab + g * kSources * 9 * kLanes, sums + offsets[c], s.line);
      for (Int i = 0; i < tile.images; ++i)
        for (Int y = 0; y < s.height; ++y)
          for (Int x = 0; x < s.width; ++x)
            store_first(result + (((tile.image + i) * s.height + y) * s.width + x) * s.inputs + b * kLanes,
                        s.inputs - b * kLanes, load(sums + i * tile.area + (y + 1) * s.line + (x + 1) * kLanes));
    }
  });
}

// ---- gradient of the weights and the bias ---------------------------------------------------------------------------

// Lists, for each of `count` outputs, its gradients that flow; lists are `capacity` apart. Also adds them to the bias.
void list_pooled(const Shape& s, const Tile& tile, const int32_t* offsets, const float* gradient,
                 const uint8_t* chosen, Int count, Int capacity, Entry* lists, int32_t* lengths, float* bias) {
  const int32_t right = s.position * sizeof(float), down = s.line * sizeof(float);
  const int32_t moves[5] = {0, right, down, down + right, 0};
  gradient += tile.first_cell * s.outputs, chosen += tile.first_cell * s.outputs;
  std::memset(lengths, 0, count * sizeof(int32_t));
  for (Int first = 0; first < tile.cells; first += kNearCells)
    for (Int o = 0; o < count; ++o) {
      Entry* end = lists + o * capacity + lengths[o];
      for (Int c = first; c < min(first + kNearCells, tile.cells); ++c) {
        const uint8_t where = chosen[c * s.outputs + o];
        *end = {offsets[c] + moves[where], gradient[c * s.outputs + o]};
        end += where != kDead;
      }
      lengths[o] = end - (lists + o * capacity);
    }
  for (Int c = 0; c < tile.cells; ++c)
    for (Int o = 0; o < count; ++o) bias[o] += chosen[c * s.outputs + o] == kDead ? 0 : gradient[c * s.outputs + o];
}

void list_all(const Shape& s, const Tile& tile, const int32_t* offsets, const float* gradient, Int count, Int capacity,
              Entry* lists, int32_t* lengths) {
  gradient += tile.first_cell * s.outputs;
  for (Int first = 0; first < tile.cells; first += kNearCells)
    for (Int o = 0; o < count; ++o)
      for (Int c = first; c < min(first + kNearCells, tile.cells); ++c)
        lists[o * capacity + c] = {offsets[c], gradient[c * s.outputs + o]};
  for (Int o = 0; o < count; ++o) lengths[o] = tile.cells;
}

// Adds to sums[3 kernel rows][registers]: a kernel row's three columns are neighbors in memory. Processes `together`
// entries at once if one has too few sums to use all multipliers.
template <int registers, int together>
void accumulate(const Entry* list, Int length, const float* x, Int line, float* out) {
  constexpr int kSums = 3 * registers;
  Vector sums[together][kSums];
#pragma GCC unroll 9
  for (int i = 0; i < kSums; ++i) {
    sums[0][i] = load(out + i * kLanes);
#pragma GCC unroll 4
    for (int t = 1; t < together; ++t) sums[t][i] = Vector{};
  }
  const auto add = [&](const Entry& entry, Vector* sums) {
    const Vector value = spread(entry.value);
    const float* at = reinterpret_cast<const float*>(reinterpret_cast<const char*>(x) + entry.offset);
#pragma GCC unroll 9
    for (int i = 0; i < kSums; ++i)
      sums[i] += value * load_loose(at + i / registers * line + i % registers * kLanes);
  };
  Int e = 0;
  for (; e + together <= length; e += together) {
#pragma GCC unroll 4
    for (int t = 0; t < together; ++t) add(list[e + t], sums[t]);
  }
  for (; e < length; ++e) add(list[e], sums[0]);
#pragma GCC unroll 9
  for (int i = 0; i < kSums; ++i) {
#pragma GCC unroll 4
    for (int t = 1; t < together; ++t) sums[0][i] += sums[t][i];
    store(out + i * kLanes, sums[0][i]);
  }
}

// `list(tile, offsets, first output, number of outputs, capacity, lists, lengths, sums of the bias)` lists the entries.
template <typename List>
void weight_gradient(const Threads& threads, const Shape& s, const float* x, const List& list, float* result,
                     float* bias) {
  const Int registers = ceil_div(3 * s.block, kLanes), sum = 3 * registers * kLanes, size = 9 * s.inputs * s.outputs;
  const auto add = registers == 1 ? accumulate<1, 4> : registers == 2 ? accumulate<2, 2> : accumulate<3, 1>;
  const Tiling cut(s, 1, kNear, false);
  const Int width = s.outputs < 512 ? 32 : 64, ranges = ceil_div(s.outputs, width);
  // With few outputs, the tiles are divided too, and the partial sums added in order.
  const Int shares = min(cut.count, ceil_div(kParts, ranges));
  const Int whole = size + s.outputs;
  float* partial = shares > 1 ? scratch<0>(shares * whole) : nullptr;
  parallel(threads, ranges * shares, [&](Int part) {
    const Int share = part / ranges, from = part % ranges * width, count = min(width, s.outputs - from);
    const Int area = (s.side * cut.rows + 2) * s.line, cells = cut.images * cut.rows * s.columns;
    const Int capacity = (ceil_div(cells + 1, 8) | 1) * 8;  // odd in cache lines, to spread lists over the cache
    const Int all_sums = s.blocks * width * sum;
    const Int padded_size = ceil_div(cut.images * area, 16) * 16 + 3 * kLanes;
    float* sums = scratch<1>(all_sums + padded_size + 2 * capacity * width + 2 * width + cells);
    float* padded = sums + all_sums;
    Entry* lists = reinterpret_cast<Entry*>(padded + padded_size);
    float* bias_sums = reinterpret_cast<float*>(lists + capacity * width);
    int32_t *lengths = reinterpret_cast<int32_t*>(bias_sums + width), *offsets = lengths + width;
    std::memset(sums, 0, all_sums * sizeof(float));
    std::memset(bias_sums, 0, width * sizeof(float));
    for (Int index = cut.count * share / shares; index < cut.count * (share + 1) / shares; ++index) {
      const Tile tile(s, cut, index);
      tile.offsets(s, tile.area, sizeof(float), offsets);
      list(tile, offsets, from, count, capacity, lists, lengths, bias_sums);
      for (Int b = 0; b < s.blocks; ++b) {
        for (Int i = 0; i < tile.images; ++i) pad(s, tile, x, tile.image + i, b, padded + i * tile.area);
        for (Int o = 0; o < count; ++o)
          add(lists + o * capacity, lengths[o], padded, s.line, sums + (b * width + o) * sum);
      }
    }
    float* out = partial ? partial + share * whole : result;
    if (partial || bias) std::memcpy((partial ? out + size : bias) + from, bias_sums, count * sizeof(float));
    for (Int tap = 0; tap < 9; ++tap)
      for (Int b = 0; b < s.blocks; ++b)
        for (Int first = 0; first < count; first += kLanes) {
          const float* in = sums + (b * width + first) * sum + tap / 3 * registers * kLanes + tap % 3 * s.block;
          Vector rows[kLanes];
#pragma GCC unroll 16
          for (Int o = 0; o < kLanes; ++o) rows[o] = load_loose(in + o * sum);
          transpose(rows);
          for (Int i = 0; i < min(s.block, s.inputs - b * kLanes); ++i)
            store_first(out + (tap * s.inputs + b * kLanes + i) * s.outputs + from + first, count - first, rows[i]);
        }
  });
  if (partial) {
    for (Int share = 1; share < shares; ++share)
      for (Int i = 0; i < whole; ++i) partial[i] += partial[share * whole + i];
    std::memcpy(result, partial, size * sizeof(float));
    if (bias) std::memcpy(bias, partial + size, s.outputs * sizeof(float));
  }
}

void conv_pool_weights(const Threads& threads, const Size& size, const float* x, const float* gradient,
                       const uint8_t* chosen, float* result, float* bias) {
  const Shape s(size, 2, min(size.inputs, kLanes));
  weight_gradient(
      threads, s, x,
      [&](const Tile& tile, const int32_t* offsets, Int from, Int count, Int capacity, Entry* lists, int32_t* lengths,
          float* bias_sums) {
        list_pooled(s, tile, offsets, gradient + from, chosen + from, count, capacity, lists, lengths, bias_sums);
      },
      result, bias);
}

void conv_weights(const Threads& threads, const Size& size, const float* x, const float* gradient, float* result) {
  const Shape s(size, 1, min(size.inputs, kLanes));
  weight_gradient(
      threads, s, x,
      [&](const Tile& tile, const int32_t* offsets, Int from, Int count, Int capacity, Entry* lists, int32_t* lengths,
          float*) { list_all(s, tile, offsets, gradient + from, count, capacity, lists, lengths); },
      result, nullptr);
}

}  // namespace

extern const Passes<float> WING_JAX_SET = {conv,      conv_input,      conv_weights,
                                           conv_pool, conv_pool_input, conv_pool_weights};

}  // namespace wing_jax
