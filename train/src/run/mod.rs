//! Run folders: resolved configuration, metrics, checkpoints, samples.
