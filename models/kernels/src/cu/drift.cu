// The objective of one feature key (method steps 1 to 5; paper Algorithm 2, eq. 8-12). A problem is a class group at one location of a map;
// its targets are its generated images, which are its samples too, then the unconditional ones, then the positives.
#include "common.cuh"

struct Sizes {
  int groups, locations, dim, generated, unconditional, positives;

  __device__ int targets() const { return generated + unconditional + positives; }
  __device__ size_t rows() const { return (size_t)groups * locations * targets(); }
};

// The vector of a target, from features `[images, locations, dim]`; `real` holds the positives of all groups, then the unconditional
// images.
__device__ inline const float *vector_of(const float *generated, const float *real, const Sizes &s, int problem, int target) {
  const int group = problem / s.locations, location = problem % s.locations;
  const float *images = real;
  size_t image = (size_t)group * s.positives + target - s.generated - s.unconditional;
  if (target < s.generated) {
    images = generated;
    image = (size_t)group * s.generated + target;
  } else if (target < s.generated + s.unconditional) {
    image = (size_t)s.groups * s.positives + (size_t)group * s.unconditional + target - s.generated;
  }
  return images + (image * s.locations + location) * s.dim;
}

// The mean of each problem's vectors, `[problems, dim]`, a thread for each number.
KERNEL void drift_centres(float *centres, const float *generated, const float *real, int groups, int locations, int dim, int samples,
                          int unconditional, int positives) {
  const Sizes s{groups, locations, dim, samples, unconditional, positives};
  const int problem = blockIdx.x, column = blockIdx.y * blockDim.x + threadIdx.x;
  if (column >= dim) return;
  float sum = 0;
  for (int target = 0; target < s.targets(); ++target) sum += vector_of(generated, real, s, problem, target)[column];
  centres[(size_t)problem * dim + column] = sum / s.targets();
}

// All vectors, `[problems, targets, dim]`, about their centre if there is one, and their squared lengths; a warp for each vector.
KERNEL void drift_points(float *points, float *squares, const float *generated, const float *real, const float *centres, int groups,
                         int locations, int dim, int samples, int unconditional, int positives, int centred) {
  const Sizes s{groups, locations, dim, samples, unconditional, positives};
  const int lane = threadIdx.x % WARP;
  const size_t row = (size_t)blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP;
  if (row >= s.rows()) return;
  const int problem = row / s.targets();
  const float *x = vector_of(generated, real, s, problem, row % s.targets()), *centre = centres + (size_t)problem * dim;
  float square = 0;
  for (int i = lane; i < dim; i += WARP) {
    const float away = centred ? x[i] - centre[i] : x[i];
    points[row * dim + i] = away;
    square += away * away;
  }
  square = warp_sum(square);
  if (lane == 0) squares[row] = square;
}

// Distances `[problems, samples, targets]` from products and squared lengths; 0 from a sample to itself, which rounding would not give, if
// it is asked for. A thread for each.
KERNEL void drift_distances(float *distances, const float *products, const float *squares, int problems, int samples, int targets,
                            int zero_itself, float least) {
  const size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= (size_t)problems * samples * targets) return;
  const int target = i % targets, sample = i / targets % samples;
  const float *of_problem = squares + i / targets / samples * targets;
  float square = of_problem[sample] + of_problem[target] - 2 * products[i];
  if (zero_itself && sample == target) square = 0;
  // Not fmaxf, which hides NaN.
  distances[i] = sqrtf(square < least ? least : square);
}

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

// A = sqrt(softmax over the targets times softmax over the samples), coupled by the masses of both sides. A block for each
// temperature of each problem. Distances `[problems, samples, targets]`; of each group of `locations` problems the scale
// of its distances, and the weights of its targets, of which the first `negatives` push. Coefficients
// `[temperatures, problems, samples, targets]`.
KERNEL void drift_coefficients(float *coefficients, const float *distances, const float *scales, const float *weights, const float *temperatures,
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

// Squared lengths of vectors `[rows, dim]`, a warp for each.
KERNEL void drift_squares(float *squares, const float *drifts, int rows, int dim) {
  const int lane = threadIdx.x % WARP;
  const size_t row = (size_t)blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP;
  if (row >= rows) return;
  float square = 0;
  for (int i = lane; i < dim; i += WARP) square += drifts[row * dim + i] * drifts[row * dim + i];
  square = warp_sum(square);
  if (lane == 0) squares[row] = square;
}

// Adds the drifts of one temperature, `[groups, rows of a group, dim]`, times a factor for each group. A warp for each vector.
KERNEL void drift_add(float *force, const float *drifts, const float *factors, int rows, int rows_of_group, int dim) {
  const int lane = threadIdx.x % WARP;
  const size_t row = (size_t)blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP;
  if (row >= rows) return;
  const float factor = factors[row / rows_of_group];
  for (int i = lane; i < dim; i += WARP) force[row * dim + i] += factor * drifts[row * dim + i];
}

// The force `[groups, locations, samples, dim]` as the gradient of features `[groups, samples, locations, dim]`, with the squared lengths
// of its vectors. A warp for each.
KERNEL void drift_gradient(float *gradient, float *squares, const float *force, const float *slopes, int groups, int locations,
                           int samples, int dim) {
  const int lane = threadIdx.x % WARP;
  const size_t row = (size_t)blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP;
  if (row >= (size_t)groups * locations * samples) return;
  const size_t sample = row % samples, location = row / samples % locations, group = row / samples / locations;
  const size_t to = ((group * samples + sample) * locations + location) * dim;
  float square = 0;
  for (int i = lane; i < dim; i += WARP) {
    const float f = force[row * dim + i];
    gradient[to + i] = slopes[group] * f;
    square += f * f;
  }
  square = warp_sum(square);
  if (lane == 0) squares[row] = square;
}
