// The handlers that XLA calls, and the choice of the instruction set. This file is compiled for any processor of its
// kind; the arithmetic is in conv3x3.cc, once per instruction set.

#include <atomic>
#include <memory>
#include <string>
#include <string_view>
#include <thread>

#include "conv3x3.h"
#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;

namespace wing_jax {
namespace {

using Floats = ffi::Buffer<ffi::F32>;
using Bytes = ffi::Buffer<ffi::U8>;

struct Set {
  std::string_view name;
  const Passes* passes;
  bool (*supported)();
};

constexpr Set kSets[] = {  // the best first
#ifdef WING_JAX_SET_AVX512
    {"avx512", &avx512, [] { return bool(__builtin_cpu_supports("avx512f")); }},
#endif
#ifdef WING_JAX_SET_AVX2
    {"avx2", &avx2, [] { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }},
#endif
#ifdef WING_JAX_SET_NEON
    {"neon", &neon, [] { return true; }},  // every 64-bit Arm processor has it
#endif
};

// The functions of a set, or nothing where this processor must not run them.
const Passes* find(std::string_view name) {
  for (const Set& set : kSets)
    if (set.name == name && set.supported()) return set.passes;
  return nullptr;
}

ffi::Error absent(std::string_view name) {
  return ffi::Error(ffi::ErrorCode::kFailedPrecondition,
                    "this program was compiled for a processor with the instructions " + std::string(name) +
                        ", which this one lacks: compile it here, with an empty compilation cache");
}

// Shares the parts with XLA's threads. Whoever is free takes the next part, and this thread waits only for parts that
// have begun, so that calls which fill the pool cannot lock each other out.
void run(void* pool, Int count, void (*body)(const void*, Int), const void* context) {
  struct State {
    std::atomic<Int> next{0}, done{0};
  };
  auto state = std::make_shared<State>();
  auto work = [state, count, body, context] {
    for (Int part; (part = state->next.fetch_add(1)) < count; state->done.fetch_add(1)) body(context, part);
  };
  auto& threads = *static_cast<ffi::ThreadPool*>(pool);
  for (Int helper = std::min(count, threads.num_threads()) - 1; helper > 0; --helper)
    threads.Schedule([work] { work(); });
  work();
  while (state->done.load() < count) std::this_thread::yield();
}

Size size_of(const Floats& x, Int outputs) {
  const auto d = x.dimensions();
  return {d[0], d[1], d[2], d[3], outputs};
}

ffi::Error conv(ffi::ThreadPool pool, Floats x, Floats weights, ffi::Result<Floats> y, std::string_view instructions) {
  const Passes* passes = find(instructions);
  if (!passes) return absent(instructions);
  passes->conv({&pool, run}, size_of(x, weights.dimensions()[3]), x.typed_data(), weights.typed_data(),
               y->typed_data());
  return ffi::Error::Success();
}

ffi::Error conv_input(ffi::ThreadPool pool, Floats gradient, Floats weights, ffi::Result<Floats> result,
                      std::string_view instructions) {
  const Passes* passes = find(instructions);
  if (!passes) return absent(instructions);
  passes->conv_input({&pool, run}, size_of(*result, weights.dimensions()[3]), gradient.typed_data(),
                     weights.typed_data(), result->typed_data());
  return ffi::Error::Success();
}

ffi::Error conv_weights(ffi::ThreadPool pool, Floats x, Floats gradient, ffi::Result<Floats> result,
                        std::string_view instructions) {
  const Passes* passes = find(instructions);
  if (!passes) return absent(instructions);
  passes->conv_weights({&pool, run}, size_of(x, gradient.dimensions()[3]), x.typed_data(), gradient.typed_data(),
                       result->typed_data());
  return ffi::Error::Success();
}

ffi::Error conv_pool(ffi::ThreadPool pool, Floats x, Floats weights, Floats bias, ffi::Result<Floats> pooled,
                     ffi::Result<Bytes> chosen, bool relu, std::string_view instructions) {
  const Passes* passes = find(instructions);
  if (!passes) return absent(instructions);
  passes->conv_pool({&pool, run}, size_of(x, weights.dimensions()[3]), x.typed_data(), weights.typed_data(),
                    bias.typed_data(), relu, pooled->typed_data(), chosen->typed_data());
  return ffi::Error::Success();
}

ffi::Error conv_pool_input(ffi::ThreadPool pool, Floats gradient, Bytes chosen, Floats weights,
                           ffi::Result<Floats> result, std::string_view instructions) {
  const Passes* passes = find(instructions);
  if (!passes) return absent(instructions);
  passes->conv_pool_input({&pool, run}, size_of(*result, weights.dimensions()[3]), gradient.typed_data(),
                          chosen.typed_data(), weights.typed_data(), result->typed_data());
  return ffi::Error::Success();
}

ffi::Error conv_pool_weights(ffi::ThreadPool pool, Floats x, Floats gradient, Bytes chosen, ffi::Result<Floats> result,
                             ffi::Result<Floats> bias, std::string_view instructions) {
  const Passes* passes = find(instructions);
  if (!passes) return absent(instructions);
  passes->conv_pool_weights({&pool, run}, size_of(x, gradient.dimensions()[3]), x.typed_data(), gradient.typed_data(),
                            chosen.typed_data(), result->typed_data(), bias->typed_data());
  return ffi::Error::Success();
}

}  // namespace
}  // namespace wing_jax

// The sets that this library has and this processor supports, the best first, with spaces between.
extern "C" const char* wing_jax_instructions() {
  static const std::string names = [] {
    std::string all;
    for (const auto& set : wing_jax::kSets)
      if (set.supported()) all += (all.empty() ? "" : " ") + std::string(set.name);
    return all;
  }();
  return names.c_str();
}

#define WING_JAX_BIND ffi::Ffi::Bind().Ctx<ffi::ThreadPool>()
#define WING_JAX_HANDLER(name, binding) \
  XLA_FFI_DEFINE_HANDLER_SYMBOL(wing_jax_##name, wing_jax::name, binding.Attr<std::string_view>("instructions"))

using F = wing_jax::Floats;
using B = wing_jax::Bytes;
WING_JAX_HANDLER(conv, WING_JAX_BIND.Arg<F>().Arg<F>().Ret<F>());
WING_JAX_HANDLER(conv_input, WING_JAX_BIND.Arg<F>().Arg<F>().Ret<F>());
WING_JAX_HANDLER(conv_weights, WING_JAX_BIND.Arg<F>().Arg<F>().Ret<F>());
WING_JAX_HANDLER(conv_pool, WING_JAX_BIND.Arg<F>().Arg<F>().Arg<F>().Ret<F>().Ret<B>().Attr<bool>("relu"));
WING_JAX_HANDLER(conv_pool_input, WING_JAX_BIND.Arg<F>().Arg<B>().Arg<F>().Ret<F>());
WING_JAX_HANDLER(conv_pool_weights, WING_JAX_BIND.Arg<F>().Arg<F>().Arg<B>().Ret<F>().Ret<F>());
