// Threads for the passes of the CPU kernel, and the comparison of their results.

#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <thread>
#include <vector>

namespace {

using Floats = std::vector<float>;

// As `Threads` wants it; the pool is the number of threads.
void run(void* pool, int64_t count, void (*body)(const void*, int64_t), const void* context) {
  std::atomic<int64_t> next{0};
  const auto work = [&] {
    for (int64_t part; (part = next++) < count;) body(context, part);
  };
  std::vector<std::thread> helpers;
  const int64_t threads = std::min(count, *static_cast<const int64_t*>(pool));
  while (int64_t(helpers.size()) + 1 < threads) helpers.emplace_back(work);
  work();
  for (auto& helper : helpers) helper.join();
}

bool same_bits(const Floats& a, const Floats& b) {
  return a.empty() || !std::memcmp(a.data(), b.data(), a.size() * sizeof(float));
}

}  // namespace
