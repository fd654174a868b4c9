// What attention does around its products: heads, their norms and rotations, softmaxes.
#include "common.cuh"

enum Normalise { RMS, L2, OFF };

// Numbers of half a head that one lane holds at most: heads of up to 256.
constexpr int HELD = 4;

struct Heads {
  int tokens, heads, dim;
  int normalise, turns;
  // Of queries, after all else.
  float factor;
  // Added to the mean square (RMS), or what the squared length is at least (L2).
  float least;

  __device__ float share(float squares) const {
    return normalise == RMS ? 1.0f / sqrtf(squares / dim + least) : normalise == L2 ? 1.0f / sqrtf(fmaxf(squares, least)) : 1.0f;
  }
};

// One row: a head of a token of an image.
struct Row {
  int token;
  size_t packed, split;

  // From queries to keys to values there are `hidden` numbers where they are packed.
  __device__ Row(size_t row, const Heads &h) {
    const size_t head = row % h.heads, of_token = row / h.heads, image = of_token / h.tokens;
    token = of_token % h.tokens;
    packed = of_token * 3 * h.heads * h.dim + head * h.dim;
    split = ((image * h.heads + head) * h.tokens + token) * h.dim;
  }
};

// Queries (0), keys (1) and values (2) of a row; the two halves of a head turn together.
template <class T>
__device__ inline void take_heads(T *const out[3], const float *qkv, const float *gains, const float *cos, const float *sin, int rows,
                                  Heads h) {
  const int lane = threadIdx.x % WARP, half = h.dim / 2;
  const size_t at = (size_t)blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP;
  if (at >= rows) return;
  const Row row(at, h);
#pragma unroll
  for (int which = 0; which < 3; ++which) {
    const float *x = qkv + row.packed + (size_t)which * h.heads * h.dim;
    T *y = out[which] + row.split;
    if (which == 2) {
      for (int i = lane; i < h.dim; i += WARP) y[i] = narrowed<T>(x[i]);
      continue;
    }
    float squares = 0;
    for (int i = lane; i < h.dim; i += WARP) squares += x[i] * x[i];
    const float share = h.share(warp_sum(squares)), factor = which == 0 ? h.factor : 1.0f;
    for (int i = lane; i < half; i += WARP) {
      float a = x[i] * share, b = x[i + half] * share;
      if (h.normalise == RMS) {
        a *= gains[which * h.dim + i];
        b *= gains[which * h.dim + i + half];
      }
      if (h.turns) {
        const float c = cos[row.token * half + i], s = sin[row.token * half + i], turned = a * c - b * s;
        b = a * s + b * c;
        a = turned;
      }
      y[i] = narrowed<T>(a * factor);
      y[i + half] = narrowed<T>(b * factor);
    }
  }
}

KERNEL void heads_f32(float *q, float *k, float *v, const float *qkv, const float *gains, const float *cos, const float *sin, int rows,
                      int tokens, int heads, int dim, int normalise, int turns, float factor, float least) {
  float *const out[3] = {q, k, v};
  take_heads(out, qkv, gains, cos, sin, rows, {tokens, heads, dim, normalise, turns, factor, least});
}

KERNEL void heads_bf16(bf16 *q, bf16 *k, bf16 *v, const float *qkv, const float *gains, const float *cos, const float *sin, int rows,
                       int tokens, int heads, int dim, int normalise, int turns, float factor, float least) {
  bf16 *const out[3] = {q, k, v};
  take_heads(out, qkv, gains, cos, sin, rows, {tokens, heads, dim, normalise, turns, factor, least});
}

// The way back: the gradient of `qkv`, and that of the gains as far as each block adds it up, `[blocks, 2, dim]`. A block takes every
// gridDim-th of the rows.
KERNEL void heads_back(float *dqkv, float *dgains, const float *qkv, const float *gains, const float *cos, const float *sin,
                       const float *dq, const float *dk, const float *dv, int rows, int tokens, int heads, int dim, int normalise,
                       int turns, float factor, float least) {
  SHARED(float, shared);
  const Heads h{tokens, heads, dim, normalise, turns, factor, least};
  const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, warps = blockDim.x / WARP, half = dim / 2;
  float sums[2][2][HELD] = {};
  for (size_t at = (size_t)blockIdx.x * warps + warp; at < rows; at += (size_t)gridDim.x * warps) {
    const Row row(at, h);
#pragma unroll
    for (int which = 0; which < 3; ++which) {
      const size_t start = row.packed + (size_t)which * heads * dim;
      const float *x = qkv + start, *dy = (which == 0 ? dq : which == 1 ? dk : dv) + row.split;
      if (which == 2) {
        for (int i = lane; i < dim; i += WARP) dqkv[start + i] = dy[i];
        continue;
      }
      float squares = 0;
      for (int i = lane; i < dim; i += WARP) squares += x[i] * x[i];
      squares = warp_sum(squares);
      // Below the floor the length does not change with x.
      const float share = h.share(squares), moves = normalise == RMS || (normalise == L2 && squares > least) ? 1.0f : 0.0f;
      float da[HELD], db[HELD], along = 0;
#pragma unroll
      for (int n = 0; n < HELD; ++n) {
        const int i = lane + n * WARP;
        if (i >= half) break;
        float a = dy[i], b = dy[i + half];
        if (which == 0) {
          a *= factor;
          b *= factor;
        }
        if (turns) {
          const float c = cos[row.token * half + i], s = sin[row.token * half + i], turned = a * c + b * s;
          b = b * c - a * s;
          a = turned;
        }
        if (normalise == RMS) {
          sums[which][0][n] += a * (x[i] * share);
          sums[which][1][n] += b * (x[i + half] * share);
          a *= gains[which * dim + i];
          b *= gains[which * dim + i + half];
        }
        along += a * (x[i] * share) + b * (x[i + half] * share);
        da[n] = a;
        db[n] = b;
      }
      along = warp_sum(along) * moves;
      if (normalise == RMS) along /= dim;
#pragma unroll
      for (int n = 0; n < HELD; ++n) {
        const int i = lane + n * WARP;
        if (i >= half) break;
        dqkv[start + i] = (da[n] - x[i] * share * along) * share;
        dqkv[start + i + half] = (db[n] - x[i + half] * share * along) * share;
      }
    }
  }
#pragma unroll
  for (int n = 0; n < HELD; ++n) {
    const int i = lane + n * WARP;
    if (i >= half) break;
#pragma unroll
    for (int which = 0; which < 2; ++which) {
      shared[(warp * 2 + which) * dim + i] = sums[which][0][n];
      shared[(warp * 2 + which) * dim + i + half] = sums[which][1][n];
    }
  }
  __syncthreads();
  for (int i = threadIdx.x; i < 2 * dim; i += blockDim.x) {
    float sum = 0;
    for (int other = 0; other < warps; ++other) sum += shared[other * 2 * dim + i];
    dgains[(size_t)blockIdx.x * 2 * dim + i] = sum;
  }
}

// `[images, heads, tokens, dim]` to `[images, tokens, heads dim]`, a thread for each number.
KERNEL void heads_join(float *y, const float *x, int rows, int tokens, int heads, int dim) {
  const size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= (size_t)rows * dim) return;
  const Row row(i / dim, {tokens, heads, dim, OFF, 0, 1.0f, 0.0f});
  y[i] = x[row.split + i % dim];
}

// And back.
template <class T> __device__ inline void split(T *y, const float *x, int rows, int tokens, int heads, int dim) {
  const size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= (size_t)rows * dim) return;
  const Row row(i / dim, {tokens, heads, dim, OFF, 0, 1.0f, 0.0f});
  y[row.split + i % dim] = narrowed<T>(x[i]);
}

KERNEL void heads_split_f32(float *y, const float *x, int rows, int tokens, int heads, int dim) {
  split(y, x, rows, tokens, heads, dim);
}

KERNEL void heads_split_bf16(bf16 *y, const float *x, int rows, int tokens, int heads, int dim) {
  split(y, x, rows, tokens, heads, dim);
}

// Softmax of rows, a warp for each.
template <class T> __device__ inline void softmax(T *y, const float *x, int rows, int columns) {
  const int lane = threadIdx.x % WARP;
  const size_t row = (size_t)blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP, start = row * columns;
  if (row >= rows) return;
  float largest = -INFINITY, sum = 0;
  for (int i = lane; i < columns; i += WARP) largest = fmaxf(largest, x[start + i]);
  largest = warp_max(largest);
  for (int i = lane; i < columns; i += WARP) sum += expf(x[start + i] - largest);
  const float share = 1.0f / warp_sum(sum);
  for (int i = lane; i < columns; i += WARP) y[start + i] = narrowed<T>(expf(x[start + i] - largest) * share);
}

KERNEL void softmax_f32(float *y, const float *x, int rows, int columns) { softmax(y, x, rows, columns); }
KERNEL void softmax_bf16(bf16 *y, const float *x, int rows, int columns) { softmax(y, x, rows, columns); }

// The gradient of the scores from the weights y and their gradient.
template <class T> __device__ inline void softmax_slopes(T *dx, const T *y, const float *dy, int rows, int columns) {
  const int lane = threadIdx.x % WARP;
  const size_t row = (size_t)blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP, start = row * columns;
  if (row >= rows) return;
  float mean = 0;
  for (int i = lane; i < columns; i += WARP) mean += widened(y[start + i]) * dy[start + i];
  mean = warp_sum(mean);
  for (int i = lane; i < columns; i += WARP) dx[start + i] = narrowed<T>((dy[start + i] - mean) * widened(y[start + i]));
}

KERNEL void softmax_back_f32(float *dx, const float *y, const float *dy, int rows, int columns) {
  softmax_slopes(dx, y, dy, rows, columns);
}

KERNEL void softmax_back_bf16(bf16 *dx, const bf16 *y, const float *dy, int rows, int columns) {
  softmax_slopes(dx, y, dy, rows, columns);
}
