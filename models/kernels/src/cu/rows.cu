// Sums that are no operation by themselves.
#include "common.cuh"

// Adds a bias to each row.
KERNEL void add_bias(float *y, const float *bias, int rows, int columns) {
  const size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
  if (i < (size_t)rows * columns) y[i] += bias[i % columns];
}

// ReLU of a sum; not fmaxf, which hides NaN.
KERNEL void sum_relu(float *y, const float *a, const float *b, int rows, int columns) {
  const size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= (size_t)rows * columns) return;
  const float sum = a[i] + b[i];
  y[i] = sum < 0 ? 0.0f : sum;
}

// The gradient of what ReLU made y of.
KERNEL void relu_back(float *dx, const float *y, const float *dy, int rows, int columns) {
  const size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
  if (i < (size_t)rows * columns) dx[i] = y[i] > 0 ? dy[i] : 0.0f;
}
