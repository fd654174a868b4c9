// The optimizer: norms of gradients, a step of AdamW, averages of parameters. A thread for each number.
#include "common.cuh"

// The sum of the squares of the numbers that a block takes, every gridDim-th, `[blocks]`.
KERNEL void square_sums(double *sums, const float *x, int count) {
  SHARED(double, shared);
  double sum = 0;
  for (size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += (size_t)gridDim.x * blockDim.x)
    sum += (double)x[i] * x[i];
  shared[threadIdx.x] = sum;
  for (int apart = blockDim.x / 2; apart > 0; apart /= 2) {
    __syncthreads();
    if (threadIdx.x < apart) shared[threadIdx.x] += shared[threadIdx.x + apart];
  }
  if (threadIdx.x == 0) sums[blockIdx.x] = shared[0];
}

KERNEL void adamw(float *parameter, float *first, float *second, const float *gradient, int count, float scale, float beta1, float add1,
                  float beta2, float add2, float rate, float root, float epsilon, float keep) {
  const size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= count) return;
  const float g = scale * gradient[i];
  const float m = beta1 * first[i] + add1 * g, v = beta2 * second[i] + add2 * (g * g);
  first[i] = m;
  second[i] = v;
  parameter[i] = keep * parameter[i] - rate * (m / (root * sqrtf(v) + epsilon));
}

KERNEL void average(float *average, const float *parameter, int count, float keep, float add) {
  const size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
  if (i < count) average[i] = keep * average[i] + add * parameter[i];
}
