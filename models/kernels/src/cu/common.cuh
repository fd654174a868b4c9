// What all kernels share. Kernels compile twice: for NVIDIA's GPUs, and for the emulator, whose header comes first.
#pragma once

#ifndef EMULATED
#include <cuda_bf16.h>
#define SHARED(type, name)                   \
  extern __shared__ float4 shared_memory[]; \
  type *name = reinterpret_cast<type *>(shared_memory)
#endif

#define KERNEL extern "C" __global__

using bf16 = __nv_bfloat16;

constexpr int WARP = 32;
constexpr unsigned ALL = 0xffffffffu;

// The sum over the threads of a warp, in all of them; always in the same order.
__device__ inline float warp_sum(float x) {
  for (int apart = WARP / 2; apart > 0; apart /= 2) x += __shfl_xor_sync(ALL, x, apart);
  return x;
}

__device__ inline float warp_max(float x) {
  for (int apart = WARP / 2; apart > 0; apart /= 2) x = fmaxf(x, __shfl_xor_sync(ALL, x, apart));
  return x;
}

// The sum over the threads of a block, in all of them; `shared` holds a number for each warp.
__device__ inline float block_sum(float x, float *shared) {
  const int lane = threadIdx.x % WARP, warps = blockDim.x / WARP;
  x = warp_sum(x);
  __syncthreads();
  if (lane == 0) shared[threadIdx.x / WARP] = x;
  __syncthreads();
  float sum = 0;
  for (int warp = 0; warp < warps; ++warp) sum += shared[warp];
  return sum;
}

// Adds up the numbers that the warps of a block have for the same lane, in the first warp; `shared` holds N for each thread.
template <int N> __device__ inline void sum_over_warps(float (&numbers)[N], float *shared) {
  for (int n = 0; n < N; ++n) shared[n * blockDim.x + threadIdx.x] = numbers[n];
  __syncthreads();
  if (threadIdx.x >= WARP) return;
  for (int other = threadIdx.x + WARP; other < blockDim.x; other += WARP)
    for (int n = 0; n < N; ++n) numbers[n] += shared[n * blockDim.x + other];
}

// A number as products take it.
template <class T> __device__ inline T narrowed(float x);
template <> __device__ inline float narrowed<float>(float x) { return x; }
template <> __device__ inline bf16 narrowed<bf16>(float x) { return __float2bfloat16(x); }
__device__ inline float widened(float x) { return x; }
__device__ inline float widened(bf16 x) { return __bfloat162float(x); }
