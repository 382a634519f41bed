// What the object of each instruction set offers to conv3x3_ffi.cc. Only plain types cross this border: the objects are
// compiled with different flags, and a function of a library that both had compiled might be linked from either.

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

// Arrays are NHWC, weights HWIO. `pooled` and `chosen` are [images, height / 2, width / 2, outputs].
struct Passes {
  void (*conv)(const Threads&, const Size&, const float* x, const float* weights, float* y);
  void (*conv_input)(const Threads&, const Size&, const float* gradient, const float* weights, float* result);
  void (*conv_weights)(const Threads&, const Size&, const float* x, const float* gradient, float* result);
  void (*conv_pool)(const Threads&, const Size&, const float* x, const float* weights, const float* bias, bool relu,
                    float* pooled, uint8_t* chosen);
  void (*conv_pool_input)(const Threads&, const Size&, const float* gradient, const uint8_t* chosen,
                          const float* weights, float* result);
  void (*conv_pool_weights)(const Threads&, const Size&, const float* x, const float* gradient, const uint8_t* chosen,
                            float* result, float* bias);
};

extern const Passes avx512, avx2, neon;

}  // namespace wing_jax
