"""Passes over the IR that more than one room needs: each computes a value of a net, none changes a net in place."""

from .analysis import Analysis
from .examples import example_codes
from .labels import label_keys, output_keys
from .narrow import narrowest
from .reads import live_ops, reads
from .taps import LINEAR, LinearOp, Taps, bias_entries, linear_matrix, linear_taps, tap_count, tap_places
from .unroll import unroll
from .words import MAX_WORD, wide_tables

__all__ = [
    "LINEAR",
    "MAX_WORD",
    "Analysis",
    "LinearOp",
    "Taps",
    "bias_entries",
    "example_codes",
    "label_keys",
    "linear_matrix",
    "linear_taps",
    "live_ops",
    "narrowest",
    "output_keys",
    "reads",
    "tap_count",
    "tap_places",
    "unroll",
    "wide_tables",
]
