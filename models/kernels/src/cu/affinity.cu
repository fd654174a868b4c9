// From distances to the coefficients of the targets (method step 5; paper Algorithm 2, eq. 8-12): A = sqrt(softmax over the targets
// times softmax over the samples), coupled by the masses of both sides.
#include "common.cuh"

struct Problem {
  const float *distances;
  float scale, mask, temperature;
  int targets, gaussian;

  __device__ float logit(int sample, int target) const {
    float d = distances[(size_t)sample * targets + target] * scale;
    if (sample == target) d += mask;
    d /= temperature;
    return gaussian ? -0.5f * d * d : -d;
  }
};

// A block for each temperature of each problem. Distances `[problems, samples, targets]`; of each group of `locations` problems the scale
// of its distances, and the weights of its targets, of which the first `negatives` push. Coefficients
// `[temperatures, problems, samples, targets]`.
KERNEL void affinity(float *coefficients, const float *distances, const float *scales, const float *weights, const float *temperatures,
                     int problems, int locations, int samples, int targets, int negatives, int gaussian, float mask, float floor,
                     float attraction, float repulsion) {
  SHARED(float, shared);
  float *row_max = shared, *row_share = row_max + samples, *column_max = row_share + samples, *column_share = column_max + targets;
  const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, warps = blockDim.x / WARP;
  const int index = blockIdx.x % problems, group = index / locations;
  const size_t size = (size_t)samples * targets;
  const Problem problem{distances + index * size, scales[group], mask, temperatures[blockIdx.x / problems], targets, gaussian};
  for (int sample = warp; sample < samples; sample += warps) {
    float largest = -INFINITY, sum = 0;
    for (int target = lane; target < targets; target += WARP) largest = fmaxf(largest, problem.logit(sample, target));
    largest = warp_max(largest);
    for (int target = lane; target < targets; target += WARP) sum += expf(problem.logit(sample, target) - largest);
    sum = warp_sum(sum);
    if (lane == 0) {
      row_max[sample] = largest;
      row_share[sample] = 1.0f / sum;
    }
  }
  for (int target = threadIdx.x; target < targets; target += blockDim.x) {
    float largest = -INFINITY, sum = 0;
    for (int sample = 0; sample < samples; ++sample) largest = fmaxf(largest, problem.logit(sample, target));
    for (int sample = 0; sample < samples; ++sample) sum += expf(problem.logit(sample, target) - largest);
    column_max[target] = largest;
    column_share[target] = 1.0f / sum;
  }
  __syncthreads();
  float *out = coefficients + blockIdx.x * size;
  const float *weight = weights + (size_t)group * targets;
  for (int sample = warp; sample < samples; sample += warps) {
    float push = 0, pull = 0;
    for (int target = lane; target < targets; target += WARP) {
      const float logit = problem.logit(sample, target);
      const float over_targets = expf(logit - row_max[sample]) * row_share[sample];
      const float over_samples = expf(logit - column_max[target]) * column_share[target];
      const float affinity = sqrtf(fmaxf(over_targets * over_samples, floor)) * weight[target];
      out[(size_t)sample * targets + target] = affinity;
      (target < negatives ? push : pull) += affinity;
    }
    push = warp_sum(push);
    pull = warp_sum(pull);
    // Every lane reads what it wrote.
    float sum = 0;
    for (int target = lane; target < targets; target += WARP) {
      const float factor = target < negatives ? -repulsion * pull : attraction * push;
      const float coefficient = factor * out[(size_t)sample * targets + target];
      out[(size_t)sample * targets + target] = coefficient;
      sum += coefficient;
    }
    sum = warp_sum(sum);
    if (sample % WARP == lane) out[(size_t)sample * targets + sample] -= sum;
  }
}
