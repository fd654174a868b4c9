//! Lowers trained networks to ONNX and verifies the result.
