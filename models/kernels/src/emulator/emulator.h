// CUDA on the processor: the threads of a block run one after the other, each until a barrier.
//
// A launch says in which order threads run, so that two launches that differ tell of a race; shared memory begins as NaN; and a
// barrier that not all threads reach is an error in place of a hang.
#pragma once
#define EMULATED

#include <algorithm>
#include <cmath>
#include <csetjmp>
#include <cstdint>
#include <cstring>
#include <memory>
#include <type_traits>
#include <ucontext.h>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __restrict__ __restrict
#define SHARED(type, name) type *name = reinterpret_cast<type *>(emulator::block.shared.data())

struct uint3 { unsigned x, y, z; };
struct alignas(16) float4 { float x, y, z, w; };

static uint3 threadIdx, blockIdx, blockDim, gridDim;

struct __nv_bfloat16 { uint16_t bits; };

inline __nv_bfloat16 __float2bfloat16(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  if (x != x) return {uint16_t((bits >> 16) | 64)};
  return {uint16_t((bits + 0x7fff + ((bits >> 16) & 1)) >> 16)};
}

inline float __bfloat162float(__nv_bfloat16 x) {
  const uint32_t bits = uint32_t(x.bits) << 16;
  float result;
  std::memcpy(&result, &bits, 4);
  return result;
}


namespace emulator {
constexpr size_t STACK = 64 << 10;
constexpr unsigned LANES = 32;

enum class At { Work, Warp, Block, End };

// Contexts begin threads; jumps, which ask nothing of the system, go on with them.
struct Thread {
  ucontext_t context;
  jmp_buf here;
  std::unique_ptr<char[]> stack{new char[STACK]};
  bool begun = false;
  At at = At::Work;
  // What a thread of the same warp may read.
  float lane;
};

struct Block {
  jmp_buf scheduler;
  std::vector<std::unique_ptr<Thread>> threads;
  unsigned count;
  std::vector<float4> shared;
  unsigned now;
  void (*kernel)(void **);
  void **arguments;

  Thread &current() { return *threads[now]; }
};
static Block block;

// Waits until all others are there too.
__attribute__((noinline)) inline void wait(At at) {
  Thread &thread = block.current();
  thread.at = at;
  if (_setjmp(thread.here) == 0) _longjmp(block.scheduler, 1);
}

// What a thread does, in one block after the other.
inline void enter() {
  for (;;) {
    block.kernel(block.arguments);
    wait(At::End);
  }
}

// Until it waits.
__attribute__((noinline)) inline void go_on(Thread &thread) {
  if (_setjmp(block.scheduler) != 0) return;
  if (thread.begun) _longjmp(thread.here, 1);
  thread.begun = true;
  setcontext(&thread.context);
}

// Lets the threads between `first` and `last` go on, if all that have not ended wait there.
inline bool release(At at, size_t first, size_t last) {
  bool any = false;
  for (size_t i = first; i < last; ++i) {
    const At there = block.threads[i]->at;
    if (there != at && there != At::End) return false;
    any |= there == at;
  }
  for (size_t i = first; any && i < last; ++i)
    if (block.threads[i]->at == at) block.threads[i]->at = At::Work;
  return any;
}

// 0, or 1 for a barrier that not all threads reach.
inline int run_block(bool backwards) {
  const unsigned count = block.count;
  while (block.threads.size() < count) {
    block.threads.push_back(std::make_unique<Thread>());
    Thread &thread = *block.threads.back();
    getcontext(&thread.context);
    thread.context.uc_stack.ss_sp = thread.stack.get();
    thread.context.uc_stack.ss_size = STACK;
    thread.context.uc_link = nullptr;
    makecontext(&thread.context, enter, 0);
  }
  for (unsigned i = 0; i < count; ++i) block.threads[i]->at = At::Work;
  for (;;) {
    for (unsigned turn = 0; turn < count; ++turn) {
      const unsigned at = backwards ? count - 1 - turn : turn;
      if (block.threads[at]->at != At::Work) continue;
      block.now = at;
      threadIdx.x = at;
      go_on(*block.threads[at]);
    }
    bool goes_on = false;
    for (unsigned first = 0; first < count; first += LANES)
      goes_on |= release(At::Warp, first, std::min(first + LANES, count));
    if (!goes_on) goes_on = release(At::Block, 0, count);
    if (goes_on) continue;
    const bool ended = std::all_of(block.threads.begin(), block.threads.begin() + count,
                                   [](const std::unique_ptr<Thread> &thread) { return thread->at == At::End; });
    // Those that wait for ever are thrown away.
    if (!ended) block.threads.clear();
    return ended ? 0 : 1;
  }
}

inline int run(void (*kernel)(void **), void **arguments, const unsigned *grid, unsigned threads, size_t shared, int backwards) {
  block.kernel = kernel;
  block.arguments = arguments;
  block.count = threads;
  gridDim = {grid[0], grid[1], grid[2]};
  blockDim = {threads, 1, 1};
  threadIdx = {0, 0, 0};
  for (unsigned z = 0; z < grid[2]; ++z)
    for (unsigned y = 0; y < grid[1]; ++y)
      for (unsigned x = 0; x < grid[0]; ++x) {
        blockIdx = {x, y, z};
        const float none = NAN;
        block.shared.assign((shared + sizeof(float4) - 1) / sizeof(float4), {none, none, none, none});
        if (run_block(backwards)) return 1;
      }
  return 0;
}

template <class... A, size_t... I> void call(void (*kernel)(A...), void **arguments, std::index_sequence<I...>) {
  kernel(*static_cast<std::remove_cv_t<A> *>(arguments[I])...);
}
template <class... A> void call(void (*kernel)(A...), void **arguments) {
  call(kernel, arguments, std::index_sequence_for<A...>());
}
} // namespace emulator

inline void __syncthreads() { emulator::wait(emulator::At::Block); }
inline void __syncwarp() { emulator::wait(emulator::At::Warp); }

inline float __shfl_sync(unsigned, float x, int from) {
  using namespace emulator;
  const unsigned first = block.now / LANES * LANES;
  block.current().lane = x;
  wait(At::Warp);
  x = block.threads[first + from]->lane;
  wait(At::Warp);
  return x;
}
inline float __shfl_xor_sync(unsigned mask, float x, int apart) {
  return __shfl_sync(mask, x, int(emulator::block.now % emulator::LANES) ^ apart);
}

// What the emulator calls: a kernel by name.
#define ENTRY(name)                                                                                                       \
  extern "C" int run_##name(void **arguments, const unsigned *grid, unsigned threads, size_t shared, int backwards) {    \
    return emulator::run([](void **all) { emulator::call(name, all); }, arguments, grid, threads, shared, backwards); \
  }
