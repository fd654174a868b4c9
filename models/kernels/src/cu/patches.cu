// The patches of images as rows, which a product with a kernel makes a convolution of.
#include "common.cuh"

struct Geometry {
  int height, width, channels, side, out_height, out_width, stride, top, left;
  // Rows and columns from one number of the images to the next, zeros being between them: what the stride of a convolution is on the way
  // back to its images.
  int apart;
};

// Some numbers side by side.
template <class T, int N> struct Run;
template <> struct alignas(4) Run<float, 1> { float at[1]; };
template <> struct alignas(16) Run<float, 4> { float at[4]; };
template <> struct alignas(2) Run<bf16, 1> { bf16 at[1]; };
template <> struct alignas(8) Run<bf16, 4> { bf16 at[4]; };

// A block takes `at_once` rows `[side, side, channels]`, N channels for each thread.
template <class T, int N> __device__ inline void take_patches(T *out, const float *x, int rows, int at_once, Geometry g) {
  const int runs = g.channels / N, items = g.side * g.side * runs;
  for (int i = threadIdx.x; i < at_once * items; i += blockDim.x) {
    const size_t row = (size_t)blockIdx.x * at_once + i / items;
    if (row >= rows) return;
    const int item = i % items, tap = item / runs, channel = item % runs * N;
    const int place = row % (g.out_height * g.out_width);
    const size_t image = row / (g.out_height * g.out_width);
    const int down = place / g.out_width * g.stride - g.top + tap / g.side;
    const int right = place % g.out_width * g.stride - g.left + tap % g.side;
    Run<T, N> run;
    const bool inside = down >= 0 && right >= 0 && down % g.apart == 0 && right % g.apart == 0 && down / g.apart < g.height &&
                        right / g.apart < g.width;
    if (inside) {
      const size_t at = ((image * g.height + down / g.apart) * g.width + right / g.apart) * g.channels + channel;
      const Run<float, N> read = *reinterpret_cast<const Run<float, N> *>(x + at);
      for (int n = 0; n < N; ++n) run.at[n] = narrowed<T>(read.at[n]);
    } else {
      for (int n = 0; n < N; ++n) run.at[n] = narrowed<T>(0.0f);
    }
    *reinterpret_cast<Run<T, N> *>(out + row * (g.side * g.side * g.channels) + tap * g.channels + channel) = run;
  }
}

KERNEL void patches_f32(float *out, const float *x, int rows, int at_once, int height, int width, int channels, int side,
                        int out_height, int out_width, int stride, int top, int left, int apart) {
  take_patches<float, 1>(out, x, rows, at_once, {height, width, channels, side, out_height, out_width, stride, top, left, apart});
}

KERNEL void patches_f32_by_4(float *out, const float *x, int rows, int at_once, int height, int width, int channels, int side,
                             int out_height, int out_width, int stride, int top, int left, int apart) {
  take_patches<float, 4>(out, x, rows, at_once, {height, width, channels, side, out_height, out_width, stride, top, left, apart});
}

KERNEL void patches_bf16(bf16 *out, const float *x, int rows, int at_once, int height, int width, int channels, int side,
                         int out_height, int out_width, int stride, int top, int left, int apart) {
  take_patches<bf16, 1>(out, x, rows, at_once, {height, width, channels, side, out_height, out_width, stride, top, left, apart});
}

KERNEL void patches_bf16_by_4(bf16 *out, const float *x, int rows, int at_once, int height, int width, int channels, int side,
                              int out_height, int out_width, int stride, int top, int left, int apart) {
  take_patches<bf16, 4>(out, x, rows, at_once, {height, width, channels, side, out_height, out_width, stride, top, left, apart});
}
