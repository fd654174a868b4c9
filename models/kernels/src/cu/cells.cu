// Means and deviations of the cells that a feature map is cut into, a thread for each channel of a cell (method section 6; paper A.5).
#include "common.cuh"

struct Cells {
  int height, width, channels, rows, columns;

  // Where the numbers of the cell's channel begin; `index` counts channels of cells of images.
  __device__ size_t start(size_t index) const {
    const int across = width / columns, down = height / rows;
    const size_t cell = index / channels;
    const size_t image = cell / (across * down);
    const int place = cell % (across * down);
    return ((image * height + place / across * rows) * width + place % across * columns) * channels + index % channels;
  }
  __device__ size_t at(int row, int column) const { return ((size_t)row * width + column) * channels; }

  __device__ float mean(const float *x) const {
    float sum = 0;
    for (int row = 0; row < rows; ++row)
      for (int column = 0; column < columns; ++column) sum += x[at(row, column)];
    return sum / (rows * columns);
  }
  __device__ float square(const float *x, float centre) const {
    float sum = 0;
    for (int row = 0; row < rows; ++row)
      for (int column = 0; column < columns; ++column) {
        const float away = x[at(row, column)] - centre;
        sum += away * away;
      }
    return sum / (rows * columns);
  }
};

enum Statistic { MEAN, MEAN_SQUARE, ROOT_MEAN_SQUARE, STD };

KERNEL void cells_forward(float *features, const float *map, int images, int height, int width, int channels, int rows, int columns,
                          int statistic, float epsilon) {
  const Cells cells{height, width, channels, rows, columns};
  const size_t index = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
  if (index >= (size_t)images * (height / rows) * (width / columns) * channels) return;
  const float *x = map + cells.start(index);
  if (statistic == MEAN) {
    features[index] = cells.mean(x);
    return;
  }
  const float square = cells.square(x, statistic == STD ? cells.mean(x) : 0.0f);
  features[index] = statistic == MEAN_SQUARE ? square : sqrtf(square + epsilon);
}

// Adds to `sum`, which lies as the map, what the gradient of the features brings back.
KERNEL void cells_back(float *sum, const float *map, const float *gradient, int images, int height, int width, int channels, int rows,
                       int columns, int statistic, float epsilon) {
  const Cells cells{height, width, channels, rows, columns};
  const size_t index = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
  if (index >= (size_t)images * (height / rows) * (width / columns) * channels) return;
  const size_t start = cells.start(index);
  const float *x = map + start;
  const float share = gradient[index] / (rows * columns), centre = statistic == STD ? cells.mean(x) : 0.0f;
  // d deviation / d x = (x - centre) / (n deviation).
  float slope = share;
  if (statistic == MEAN_SQUARE) slope = 2 * share;
  if (statistic == ROOT_MEAN_SQUARE || statistic == STD) slope = share / sqrtf(cells.square(x, centre) + epsilon);
  for (int row = 0; row < rows; ++row)
    for (int column = 0; column < columns; ++column) {
      const size_t at = cells.at(row, column);
      sum[start + at] += statistic == MEAN ? slope : slope * (x[at] - centre);
    }
}
