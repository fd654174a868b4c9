// x + gate y, with a gate for each column of each image.
#include "common.cuh"

KERNEL void gate_forward(float *sum, const float *x, const float *y, const float *modulation, int rows, int tokens, int hidden,
                         int width, int gate_at) {
  const size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= (size_t)rows * hidden) return;
  const size_t row = i / hidden, column = i % hidden;
  sum[i] = x[i] + modulation[row / tokens * width + gate_at + column] * y[i];
}

// The gradient of y, and those of the gates `[images, hidden]`. A block takes 32 columns of an image, each warp some of its tokens.
KERNEL void gate_back(float *dy, float *dgate, const float *dsum, const float *y, const float *modulation, int tokens, int hidden,
                      int width, int gate_at) {
  SHARED(float, shared);
  const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, warps = blockDim.x / WARP;
  const int column = blockIdx.y * WARP + lane;
  const size_t image = blockIdx.x;
  float sum[1] = {};
  if (column < hidden) {
    const float gate = modulation[image * width + gate_at + column];
    for (int token = warp; token < tokens; token += warps) {
      const size_t at = (image * tokens + token) * hidden + column;
      dy[at] = gate * dsum[at];
      sum[0] += dsum[at] * y[at];
    }
  }
  sum_over_warps(sum, shared);
  if (warp == 0 && column < hidden) dgate[image * hidden + column] = sum[0];
}
