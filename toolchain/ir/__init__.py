"""The intermediate representation: operations, the two net levels, verifier, text and serialisation."""

from . import ops
from .net import EqNet, IntNet, Net
from .parts import Circuit, Encoding, Format, Input, Output, Param, Schedule, State, Stop, walk
from .ranges import Interval, RangeError, table_reach, value_ranges
from .types import OpError, ValueType, infer
from .verify import LEGAL, MAX_BITS, check, verify

__all__ = [
    "LEGAL",
    "MAX_BITS",
    "Circuit",
    "Encoding",
    "EqNet",
    "Format",
    "Input",
    "IntNet",
    "Interval",
    "Net",
    "OpError",
    "Output",
    "Param",
    "RangeError",
    "Schedule",
    "State",
    "Stop",
    "ValueType",
    "check",
    "infer",
    "ops",
    "table_reach",
    "value_ranges",
    "verify",
    "walk",
]
