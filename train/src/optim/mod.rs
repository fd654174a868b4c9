//! Optimizer, gradient clipping, learning-rate schedule, exponential moving average.
