"""Quantization-aware training: a float net learns to be good as integers."""
