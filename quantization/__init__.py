"""Quantization: EqNet to IntNet, with formats chosen and accumulator widths proved."""
