"""The float64 interpreter of EqNet: what the source framework's own forward pass computes, to rounding error."""

from .network import run_reference

__all__ = ["run_reference"]
