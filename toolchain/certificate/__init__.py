"""What is proved about the relaxation of a net: `certify` gives a contraction bound for each recurrent block."""

from .certificate import Block, Certificate, certify, recurrent_weights
from .norm import spectral_bound

__all__ = ["Block", "Certificate", "certify", "recurrent_weights", "spectral_bound"]
