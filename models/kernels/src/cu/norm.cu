// RMSNorm and LayerNorm with gain and modulation: y = (n gain + offset) (1 + scale) + shift, n = (x - mean) / deviation.
#include "common.cuh"

// Where the numbers of an image's rows lie in its modulation.
struct Columns {
  const float *scale, *shift;
};

__device__ inline Columns columns_of(const float *modulation, int image, int width, int scale_at, int shift_at) {
  const float *row = modulation + (size_t)image * width;
  return {row + scale_at, row + shift_at};
}

// A warp for each row. `affine` has `parts` rows: gain, and offset if there are two; `stats` takes mean and 1 / deviation.
KERNEL void norm_forward(float *y, float *stats, const float *x, const float *affine, const float *modulation, int rows,
                         int tokens, int hidden, int width, int scale_at, int shift_at, int parts, int centred, float epsilon) {
  const int lane = threadIdx.x % WARP, row = blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP;
  if (row >= rows) return;
  const Columns columns = columns_of(modulation, row / tokens, width, scale_at, shift_at);
  const size_t start = (size_t)row * hidden;
  float mean = 0;
  if (centred) {
    for (int i = lane; i < hidden; i += WARP) mean += x[start + i];
    mean = warp_sum(mean) / hidden;
  }
  float square = 0;
  for (int i = lane; i < hidden; i += WARP) {
    const float away = x[start + i] - mean;
    square += away * away;
  }
  const float share = 1.0f / sqrtf(warp_sum(square) / hidden + epsilon);
  for (int i = lane; i < hidden; i += WARP) {
    float value = (x[start + i] - mean) * share * affine[i];
    if (parts == 2) value += affine[hidden + i];
    y[start + i] = value * (1.0f + columns.scale[i]) + columns.shift[i];
  }
  if (lane == 0) {
    stats[2 * (size_t)row] = mean;
    stats[2 * (size_t)row + 1] = share;
  }
}

// The gradient of x, a warp for each row.
KERNEL void norm_back(float *dx, const float *x, const float *stats, const float *dy, const float *affine, const float *modulation,
                      int rows, int tokens, int hidden, int width, int scale_at, int centred) {
  const int lane = threadIdx.x % WARP, row = blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP;
  if (row >= rows) return;
  const float *scale = columns_of(modulation, row / tokens, width, scale_at, 0).scale;
  const size_t start = (size_t)row * hidden;
  const float mean = stats[2 * (size_t)row], share = stats[2 * (size_t)row + 1];
  float push = 0, along = 0;
  for (int i = lane; i < hidden; i += WARP) {
    const float dn = dy[start + i] * (1.0f + scale[i]) * affine[i];
    push += dn;
    along += dn * ((x[start + i] - mean) * share);
  }
  push = centred ? warp_sum(push) / hidden : 0.0f;
  along = warp_sum(along) / hidden;
  for (int i = lane; i < hidden; i += WARP) {
    const float dn = dy[start + i] * (1.0f + scale[i]) * affine[i];
    dx[start + i] = (dn - push - (x[start + i] - mean) * share * along) * share;
  }
}

// Over the tokens of each image, the sums of dy n and of dy, `[images, hidden]` each. A block takes 32 columns of an image, each warp
// some of its tokens.
KERNEL void norm_columns(float *along, float *sums, const float *x, const float *stats, const float *dy, int tokens, int hidden) {
  SHARED(float, shared);
  const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, warps = blockDim.x / WARP;
  const int column = blockIdx.y * WARP + lane;
  const size_t image = blockIdx.x;
  float sums_of[2] = {};
  if (column < hidden) {
    for (int token = warp; token < tokens; token += warps) {
      const size_t row = image * tokens + token, at = row * hidden + column;
      sums_of[0] += dy[at] * ((x[at] - stats[2 * row]) * stats[2 * row + 1]);
      sums_of[1] += dy[at];
    }
  }
  sum_over_warps(sums_of, shared);
  if (warp != 0 || column >= hidden) return;
  along[image * hidden + column] = sums_of[0];
  sums[image * hidden + column] = sums_of[1];
}
