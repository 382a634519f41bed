// The handlers that XLA calls, and the selection of the instruction set. This file is compiled for the baseline of the
// architecture; the arithmetic is in conv3x3.cc and depthwise.cc, once per instruction set, and in conv3x3_bf16.cc.

#ifdef WING_JAX_SET_AMX
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include <atomic>
#include <memory>
#include <string>
#include <string_view>
#include <thread>

#include "cpu_kernel.h"
#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;

namespace wing_jax {
namespace {

constexpr auto F = ffi::DataType::F32, H = ffi::DataType::BF16;
using Floats = ffi::Buffer<F>;
using Bytes = ffi::Buffer<ffi::DataType::U8>;
template <ffi::DataType type>  // of images and their gradients
using PassesOf = Passes<ffi::NativeType<type>>;

struct Set {
  std::string_view name;
  bool (*supported)();
  const PassesOf<F>* floats;
  const PassesOf<H>* halves;
  const depthwise::Passes* depthwise;
};

#ifdef WING_JAX_SET_AMX
// Linux grants the large AMX registers only to a process that requests them.
bool tiles_allowed() {
  static const bool allowed = __builtin_cpu_supports("amx-bf16") && __builtin_cpu_supports("avx512bw") &&
                              syscall(SYS_arch_prctl, 0x1023 /* ARCH_REQ_XCOMP_PERM */, 18 /* tile data */) == 0;
  return allowed;
}
#endif

// Best first.
constexpr Set kSets[] = {
#ifdef WING_JAX_SET_AVX512
    {"avx512", [] { return bool(__builtin_cpu_supports("avx512f")); }, &avx512, nullptr, &depthwise::avx512},
#endif
#ifdef WING_JAX_SET_AVX2
    {"avx2", [] { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }, &avx2, nullptr,
     &depthwise::avx2},
#endif
#ifdef WING_JAX_SET_NEON
    {"neon", [] { return true; }, &neon, nullptr, &depthwise::neon},  // every 64-bit Arm processor has it
#endif
#ifdef WING_JAX_SET_AMX
    {"amx", tiles_allowed, nullptr, &amx, nullptr},
#endif
};

// Returns the set of this name, or one without functions if this processor does not support it.
const Set& find_set(std::string_view name) {
  static constexpr Set none = {};
  for (const Set& set : kSets)
    if (set.name == name && set.supported()) return set;
  return none;
}

template <ffi::DataType type>
const PassesOf<type>* find(std::string_view name) {
  if constexpr (type == H)
    return find_set(name).halves;
  else
    return find_set(name).floats;
}

ffi::Error absent(std::string_view name) {
  return ffi::Error(ffi::ErrorCode::kFailedPrecondition,
                    "this program was compiled for a processor with the instructions " + std::string(name) +
                        ", which this one lacks: compile it here, with an empty compilation cache");
}

// Distributes the parts over XLA's threads. A free thread takes the next part. This thread waits only for parts that
// have started, so that calls that fill the pool cannot deadlock.
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

template <ffi::DataType type>
Size size_of(const ffi::Buffer<type>& x, Int outputs) {
  const auto d = x.dimensions();
  return {d[0], d[1], d[2], d[3], outputs};
}

template <ffi::DataType type>
ffi::Error conv(ffi::ThreadPool pool, ffi::Buffer<type> x, Floats weights, ffi::Result<ffi::Buffer<type>> y,
                std::string_view instructions) {
  const auto* passes = find<type>(instructions);
  if (!passes) return absent(instructions);
  passes->conv({&pool, run}, size_of(x, weights.dimensions()[3]), x.typed_data(), weights.typed_data(),
               y->typed_data());
  return ffi::Error::Success();
}

template <ffi::DataType type>
ffi::Error conv_input(ffi::ThreadPool pool, ffi::Buffer<type> gradient, Floats weights,
                      ffi::Result<ffi::Buffer<type>> result, std::string_view instructions) {
  const auto* passes = find<type>(instructions);
  if (!passes) return absent(instructions);
  passes->conv_input({&pool, run}, size_of(*result, weights.dimensions()[3]), gradient.typed_data(),
                     weights.typed_data(), result->typed_data());
  return ffi::Error::Success();
}

template <ffi::DataType type>
ffi::Error conv_weights(ffi::ThreadPool pool, ffi::Buffer<type> x, ffi::Buffer<type> gradient,
                        ffi::Result<Floats> result, std::string_view instructions) {
  const auto* passes = find<type>(instructions);
  if (!passes) return absent(instructions);
  passes->conv_weights({&pool, run}, size_of(x, gradient.dimensions()[3]), x.typed_data(), gradient.typed_data(),
                       result->typed_data());
  return ffi::Error::Success();
}

template <ffi::DataType type>
ffi::Error conv_pool(ffi::ThreadPool pool, ffi::Buffer<type> x, Floats weights, Floats bias,
                     ffi::Result<ffi::Buffer<type>> pooled, ffi::Result<Bytes> chosen, bool relu,
                     std::string_view instructions) {
  const auto* passes = find<type>(instructions);
  if (!passes) return absent(instructions);
  passes->conv_pool({&pool, run}, size_of(x, weights.dimensions()[3]), x.typed_data(), weights.typed_data(),
                    bias.typed_data(), relu, pooled->typed_data(), chosen->typed_data());
  return ffi::Error::Success();
}

template <ffi::DataType type>
ffi::Error conv_pool_input(ffi::ThreadPool pool, ffi::Buffer<type> gradient, Bytes chosen, Floats weights,
                           ffi::Result<ffi::Buffer<type>> result, std::string_view instructions) {
  const auto* passes = find<type>(instructions);
  if (!passes) return absent(instructions);
  passes->conv_pool_input({&pool, run}, size_of(*result, weights.dimensions()[3]), gradient.typed_data(),
                          chosen.typed_data(), weights.typed_data(), result->typed_data());
  return ffi::Error::Success();
}

template <ffi::DataType type>
ffi::Error conv_pool_weights(ffi::ThreadPool pool, ffi::Buffer<type> x, ffi::Buffer<type> gradient, Bytes chosen,
                             ffi::Result<Floats> result, ffi::Result<Floats> bias, std::string_view instructions) {
  const auto* passes = find<type>(instructions);
  if (!passes) return absent(instructions);
  passes->conv_pool_weights({&pool, run}, size_of(x, gradient.dimensions()[3]), x.typed_data(), gradient.typed_data(),
                            chosen.typed_data(), result->typed_data(), bias->typed_data());
  return ffi::Error::Success();
}

// The attributes of a depthwise convolution of `x`, whose results are `y`.
depthwise::Size size_of(const Floats& x, const Floats& y, Int side, Int stride, Int top, Int left) {
  const auto from = x.dimensions(), to = y.dimensions();
  return {from[0], from[1], from[2], from[3], to[1], to[2], side, stride, top, left};
}

ffi::Error depthwise_conv(ffi::ThreadPool pool, Floats x, Floats weights, ffi::Result<Floats> y, Int stride, Int top,
                          Int left, std::string_view instructions) {
  const auto* passes = find_set(instructions).depthwise;
  if (!passes) return absent(instructions);
  const auto size = size_of(x, *y, weights.dimensions()[0], stride, top, left);
  passes->conv({&pool, run}, size, x.typed_data(), weights.typed_data(), y->typed_data());
  return ffi::Error::Success();
}

ffi::Error depthwise_input(ffi::ThreadPool pool, Floats gradient, Floats weights, ffi::Result<Floats> result,
                           Int stride, Int top, Int left, std::string_view instructions) {
  const auto* passes = find_set(instructions).depthwise;
  if (!passes) return absent(instructions);
  const auto size = size_of(*result, gradient, weights.dimensions()[0], stride, top, left);
  passes->conv_input({&pool, run}, size, gradient.typed_data(), weights.typed_data(), result->typed_data());
  return ffi::Error::Success();
}

ffi::Error depthwise_weights(ffi::ThreadPool pool, Floats x, Floats gradient, ffi::Result<Floats> result, Int stride,
                             Int top, Int left, std::string_view instructions) {
  const auto* passes = find_set(instructions).depthwise;
  if (!passes) return absent(instructions);
  const auto size = size_of(x, gradient, result->dimensions()[0], stride, top, left);
  passes->conv_weights({&pool, run}, size, x.typed_data(), gradient.typed_data(), result->typed_data());
  return ffi::Error::Success();
}

}  // namespace
}  // namespace wing_jax

// The sets that this library has and this processor supports, best first, separated by spaces.
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
#define WING_JAX_HANDLERS(name, binding)                                                           \
  XLA_FFI_DEFINE_HANDLER_SYMBOL(wing_jax_##name, wing_jax::name<wing_jax::F>,                      \
                                binding(wing_jax::Floats).Attr<std::string_view>("instructions")); \
  XLA_FFI_DEFINE_HANDLER_SYMBOL(wing_jax_##name##_bf16, wing_jax::name<wing_jax::H>,               \
                                binding(ffi::Buffer<wing_jax::H>).Attr<std::string_view>("instructions"))

using Floats = wing_jax::Floats;
using Bytes = wing_jax::Bytes;
#define WING_JAX_CONV(V) WING_JAX_BIND.Arg<V>().Arg<Floats>().Ret<V>()
#define WING_JAX_CONV_WEIGHTS(V) WING_JAX_BIND.Arg<V>().Arg<V>().Ret<Floats>()
#define WING_JAX_CONV_POOL(V) \
  WING_JAX_BIND.Arg<V>().Arg<Floats>().Arg<Floats>().Ret<V>().Ret<Bytes>().Attr<bool>("relu")
#define WING_JAX_CONV_POOL_INPUT(V) WING_JAX_BIND.Arg<V>().Arg<Bytes>().Arg<Floats>().Ret<V>()
#define WING_JAX_CONV_POOL_WEIGHTS(V) WING_JAX_BIND.Arg<V>().Arg<V>().Arg<Bytes>().Ret<Floats>().Ret<Floats>()
WING_JAX_HANDLERS(conv, WING_JAX_CONV);
WING_JAX_HANDLERS(conv_input, WING_JAX_CONV);
WING_JAX_HANDLERS(conv_weights, WING_JAX_CONV_WEIGHTS);
WING_JAX_HANDLERS(conv_pool, WING_JAX_CONV_POOL);
WING_JAX_HANDLERS(conv_pool_input, WING_JAX_CONV_POOL_INPUT);
WING_JAX_HANDLERS(conv_pool_weights, WING_JAX_CONV_POOL_WEIGHTS);

#define WING_JAX_DEPTHWISE(name)                                            \
  XLA_FFI_DEFINE_HANDLER_SYMBOL(wing_jax_##name, wing_jax::name,            \
                                WING_JAX_BIND.Arg<Floats>()                 \
                                    .Arg<Floats>()                          \
                                    .Ret<Floats>()                          \
                                    .Attr<wing_jax::Int>("stride")          \
                                    .Attr<wing_jax::Int>("top")             \
                                    .Attr<wing_jax::Int>("left")            \
                                    .Attr<std::string_view>("instructions"))
WING_JAX_DEPTHWISE(depthwise_conv);
WING_JAX_DEPTHWISE(depthwise_input);
WING_JAX_DEPTHWISE(depthwise_weights);
