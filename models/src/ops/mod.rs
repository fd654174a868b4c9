//! Fused tensor operations with gradients.
