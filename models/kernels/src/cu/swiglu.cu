// SiLU(gate) value, a thread for each number.
#include "common.cuh"

__device__ inline float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

KERNEL void swiglu_forward(float *y, const float *gate, const float *value, int rows, int columns) {
  const size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
  if (i < (size_t)rows * columns) y[i] = gate[i] * sigmoid(gate[i]) * value[i];
}

// d SiLU / d g = s (1 + g (1 - s)) with s = sigmoid(g).
KERNEL void swiglu_back(float *dgate, float *dvalue, const float *gate, const float *value, const float *dy, int rows, int columns) {
  const size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= (size_t)rows * columns) return;
  const float g = gate[i], s = sigmoid(g);
  dgate[i] = dy[i] * value[i] * (s * (1.0f + g * (1.0f - s)));
  dvalue[i] = dy[i] * (g * s);
}
