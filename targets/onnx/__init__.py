"""Target `onnx`: a relaxation network as a standard ONNX model."""
