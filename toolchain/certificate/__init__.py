"""What is proved about the relaxation of a net: `certify` gives a contraction bound for each recurrent block, and
`recovery` what upsets of any size can leave of the label and the states of given samples."""

from .certificate import Block, Certificate, certify, recurrent_weights
from .clocks import clocks
from .local import SETTLING_TICKS, Attraction, Counterexample, attraction, counterexamples
from .norm import NoBoundError, spectral_bound, spectral_bounds
from .recovery import Recovery, recovery

__all__ = [
    "SETTLING_TICKS",
    "Attraction",
    "Block",
    "Certificate",
    "Counterexample",
    "NoBoundError",
    "Recovery",
    "attraction",
    "certify",
    "clocks",
    "counterexamples",
    "recovery",
    "recurrent_weights",
    "spectral_bound",
    "spectral_bounds",
]
