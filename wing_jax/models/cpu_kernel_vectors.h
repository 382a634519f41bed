// Registers of floats, with the compiler's vector types (`vector_size`). In an anonymous namespace, as in
// cpu_kernel_parts.h: WING_JAX_SET is the name of the instruction set that the object is compiled for.

#pragma once

#include <cstring>

#include "cpu_kernel.h"

namespace wing_jax {
namespace {

namespace lanes {
[[maybe_unused]] constexpr Int avx512 = 16, avx2 = 8, neon = 4;
}  // namespace lanes

constexpr Int kLanes = lanes::WING_JAX_SET;  // floats in a register

typedef float Vector __attribute__((vector_size(kLanes * sizeof(float))));
typedef float Loose __attribute__((vector_size(kLanes * sizeof(float)), aligned(sizeof(float)), may_alias));

inline Vector spread(float value) { return value - Vector{}; }
inline Vector load(const float* at) { return *reinterpret_cast<const Vector*>(at); }
inline Vector load_loose(const float* at) { return *reinterpret_cast<const Loose*>(at); }
inline void store(float* at, Vector value) { *reinterpret_cast<Vector*>(at) = value; }
inline void store_loose(float* at, Vector value) { *reinterpret_cast<Loose*>(at) = value; }

// Loads from an array that may end within the register; zeros beyond its end.
inline Vector load_first(const float* at, Int count) {
  if (count >= kLanes) return load_loose(at);
  Vector value = {};
  if (count > 0) std::memcpy(&value, at, count * sizeof(float));
  return value;
}

inline void store_first(float* at, Int count, Vector value) {
  if (count >= kLanes)
    store_loose(at, value);
  else if (count > 0)
    std::memcpy(at, &value, count * sizeof(float));
}

}  // namespace
}  // namespace wing_jax
