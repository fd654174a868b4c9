// Group normalisation of images whose channels come last, with ReLU: y = n scale + bias, n = (x - mean) / deviation of a group of channels.
#include "common.cuh"

struct Group {
  size_t start; // of the image
  int first, size, members;

  // A block for each group of each image.
  __device__ Group(int places, int channels, int groups)
      : start((size_t)(blockIdx.x / groups) * places * channels), first(blockIdx.x % groups * (channels / groups)),
        size(channels / groups), members(places * (channels / groups)) {}
  __device__ int channel(int member) const { return first + member % size; }
  __device__ size_t at(int member, int channels) const { return start + (size_t)(member / size) * channels + channel(member); }
};

__device__ inline float applied(float n, float scale, float bias) { return n * scale + bias; }

// The gradient of n, if ReLU lets it pass.
__device__ inline float slope(float n, float scale, float bias, float dy, int relu) {
  return !relu || applied(n, scale, bias) > 0 ? dy * scale : 0.0f;
}

// `stats` takes mean and 1 / deviation of each group of each image.
KERNEL void group_norm_forward(float *y, float *stats, const float *x, const float *scale, const float *bias, int places, int channels,
                               int groups, int relu, float epsilon) {
  SHARED(float, shared);
  const Group group(places, channels, groups);
  float sum = 0;
  for (int i = threadIdx.x; i < group.members; i += blockDim.x) sum += x[group.at(i, channels)];
  const float mean = block_sum(sum, shared) / group.members;
  float square = 0;
  for (int i = threadIdx.x; i < group.members; i += blockDim.x) {
    const float away = x[group.at(i, channels)] - mean;
    square += away * away;
  }
  const float share = 1.0f / sqrtf(block_sum(square, shared) / group.members + epsilon);
  for (int i = threadIdx.x; i < group.members; i += blockDim.x) {
    const size_t at = group.at(i, channels);
    const int channel = group.channel(i);
    const float value = applied((x[at] - mean) * share, scale[channel], bias[channel]);
    y[at] = relu && value < 0 ? 0.0f : value; // not fmaxf, which hides NaN
  }
  if (threadIdx.x == 0) {
    stats[2 * (size_t)blockIdx.x] = mean;
    stats[2 * (size_t)blockIdx.x + 1] = share;
  }
}

// The gradient of x.
KERNEL void group_norm_back(float *dx, const float *x, const float *stats, const float *dy, const float *scale, const float *bias,
                            int places, int channels, int groups, int relu) {
  SHARED(float, shared);
  const Group group(places, channels, groups);
  const float mean = stats[2 * (size_t)blockIdx.x], share = stats[2 * (size_t)blockIdx.x + 1];
  float push = 0, along = 0;
  for (int i = threadIdx.x; i < group.members; i += blockDim.x) {
    const size_t at = group.at(i, channels);
    const int channel = group.channel(i);
    const float n = (x[at] - mean) * share, dn = slope(n, scale[channel], bias[channel], dy[at], relu);
    push += dn;
    along += dn * n;
  }
  push = block_sum(push, shared) / group.members;
  along = block_sum(along, shared) / group.members;
  for (int i = threadIdx.x; i < group.members; i += blockDim.x) {
    const size_t at = group.at(i, channels);
    const int channel = group.channel(i);
    const float n = (x[at] - mean) * share, dn = slope(n, scale[channel], bias[channel], dy[at], relu);
    dx[at] = (dn - push - n * along) * share;
  }
}

// Of each image, the gradients of scale and bias, `[images, channels]` each. A block takes 32 channels of an image, each warp some places.
KERNEL void group_norm_columns(float *dscale, float *dbias, const float *x, const float *stats, const float *dy, const float *scale,
                               const float *bias, int places, int channels, int groups, int relu) {
  SHARED(float, shared);
  const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, warps = blockDim.x / WARP;
  const int channel = blockIdx.y * WARP + lane;
  const size_t image = blockIdx.x;
  float sums[2] = {};
  if (channel < channels) {
    const float *of_group = stats + 2 * (image * groups + channel / (channels / groups));
    for (int place = warp; place < places; place += warps) {
      const size_t at = (image * places + place) * channels + channel;
      const float n = (x[at] - of_group[0]) * of_group[1];
      if (relu && !(applied(n, scale[channel], bias[channel]) > 0)) continue;
      sums[0] += dy[at] * n;
      sums[1] += dy[at];
    }
  }
  sum_over_warps(sums, shared);
  if (warp != 0 || channel >= channels) return;
  dscale[image * channels + channel] = sums[0];
  dbias[image * channels + channel] = sums[1];
}
