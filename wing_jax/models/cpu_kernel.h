// The interface of the object of each instruction set to cpu_kernel_ffi.cc. It uses only plain types: the objects are
// compiled with different flags, and a library function that both compiled could be linked from either.

#pragma once

#include <cstdint>

namespace wing_jax {

using Int = int64_t;

struct Size {
  Int images, height, width, inputs, outputs;
};

// Calls body(context, 0) .. body(context, count - 1), on several threads and in any order.
struct Threads {
  void* pool;
  void (*run)(void* pool, Int count, void (*body)(const void* context, Int part), const void* context);
};

using Half = uint16_t;  // the bits of a bfloat16

// Arrays are NHWC, weights HWIO. `pooled` and `chosen` are [images, height / 2, width / 2, outputs].
template <typename Value>
struct Passes {
  void (*conv)(const Threads&, const Size&, const Value* x, const float* weights, Value* y);
  void (*conv_input)(const Threads&, const Size&, const Value* gradient, const float* weights, Value* result);
  void (*conv_weights)(const Threads&, const Size&, const Value* x, const Value* gradient, float* result);
  void (*conv_pool)(const Threads&, const Size&, const Value* x, const float* weights, const float* bias, bool relu,
                    Value* pooled, uint8_t* chosen);
  void (*conv_pool_input)(const Threads&, const Size&, const Value* gradient, const uint8_t* chosen,
                          const float* weights, Value* result);
  void (*conv_pool_weights)(const Threads&, const Size&, const Value* x, const Value* gradient, const uint8_t* chosen,
                            float* result, float* bias);
};

extern const Passes<float> avx512, avx2, neon;
extern const Passes<Half> amx;

namespace depthwise {

// `rows` and `columns` are those of the outputs; the output at row y depends on the input rows from y * stride - top on.
struct Size {
  Int images, height, width, channels, rows, columns, side, stride, top, left;
};

// Weights are [side, side, channels], where the side is 3 or 5; `top` and `left` are below it.
struct Passes {
  void (*conv)(const Threads&, const Size&, const float* x, const float* weights, float* y);
  void (*conv_input)(const Threads&, const Size&, const float* gradient, const float* weights, float* result);
  void (*conv_weights)(const Threads&, const Size&, const float* x, const float* gradient, float* result);
};

extern const Passes avx512, avx2, neon;

}  // namespace depthwise

}  // namespace wing_jax
