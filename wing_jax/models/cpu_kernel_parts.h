// Code shared by all instruction sets. Everything is in an anonymous namespace, so that every object compiles it with
// its own flags.

#pragma once

#include <cstdlib>
#include <new>

#include "cpu_kernel.h"

namespace wing_jax {
namespace {

constexpr Int kParts = 8;  // smallest number of parts of the work, if the shape allows
constexpr int kDead = 4;   // in `chosen`: no gradient flows

Int min(Int a, Int b) { return a < b ? a : b; }
Int max(Int a, Int b) { return a > b ? a : b; }
Int ceil_div(Int a, Int b) { return (a + b - 1) / b; }

// Memory that a thread reuses between calls: new pages cost more than the arithmetic on them. Not inlined, because g++
// then compiles the following loops worse.
template <int slot, typename Value = float>
__attribute__((noinline)) Value* scratch(Int count) {
  struct Kept {
    Value* data = nullptr;
    Int size = 0;
    ~Kept() { std::free(data); }
  };
  thread_local Kept kept;
  if (kept.size <= count) {
    const Int size = (count / 1024 + 1) * 1024;
    std::free(kept.data);
    kept.data = static_cast<Value*>(std::aligned_alloc(64, size * sizeof(Value)));
    kept.size = kept.data ? size : 0;
    if (!kept.data) throw std::bad_alloc();
  }
  return kept.data;
}

template <typename Body>
void parallel(const Threads& threads, Int count, const Body& body) {
  threads.run(
      threads.pool, count, [](const void* context, Int part) { (*static_cast<const Body*>(context))(part); }, &body);
}

}  // namespace
}  // namespace wing_jax
