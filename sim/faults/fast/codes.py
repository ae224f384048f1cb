"""Numbers shared by the arrays and the kernel that reads them."""

from __future__ import annotations

from typing import Final

__all__: list[str] = []

# Kinds of operations. Up to COPY a result follows from one element of each operand.
ADD: Final = 0
SUB: Final = 1
MUL: Final = 2
ABS: Final = 3
GREATER: Final = 4
SELECT: Final = 5
RESCALE: Final = 6
LOOKUP: Final = 7
INTERPOLATE: Final = 8
DAMP: Final = 9
DIVIDE: Final = 10
ISQRT: Final = 11
COPY: Final = 12
EMBED: Final = 13
SUM: Final = 14
MAX: Final = 15
DOT: Final = 16

# Columns of an operation.
KIND: Final = 0
OUT: Final = 1
SLOT: Final = 2
SLOTS: Final = 3
BITS: Final = 4
SIGNED: Final = 5
FACTOR: Final = 6
SHIFT: Final = 7
FIRST: Final = 8
TABLE: Final = 9
SLOPE: Final = 10
WEIGHT: Final = 11
LIST: Final = 12
OP_COLUMNS: Final = 13

# Columns of an operand.
SLOT_VALUE: Final = 0
SLOT_GATHER: Final = 1
SLOT_FAN: Final = 2
SLOT_SAME: Final = 3
SLOT_COLUMNS: Final = 4

# Columns of a state.
STATE_VALUE: Final = 0
STATE_UPDATE: Final = 1
STATE_BITS: Final = 2
STATE_SIGNED: Final = 3
STATE_FIRST: Final = 4
STATE_GATHER: Final = 5
STATE_COLUMNS: Final = 6

# What an upset is in: a register, a result of an operation, a constant.
IN_STATE: Final = 0
IN_DRIVE: Final = 1
IN_STEP: Final = 2
IN_READOUT: Final = 3
IN_PARAM: Final = 4

# Columns of what an upset names: where it is, its operation, its value and that one's first element, and its word.
TO_IN: Final = 0
TO_OP: Final = 1
TO_VALUE: Final = 2
TO_BASE: Final = 3
TO_BITS: Final = 4
TO_SIGNED: Final = 5
TO_TERNARY: Final = 6
TO_COLUMNS: Final = 7

# Columns of a program: its lines and how many, its first unit, the value that it computes and that one's first element,
# and the word that is latched.
PROGRAM_LINE: Final = 0
PROGRAM_LINES: Final = 1
PROGRAM_UNIT: Final = 2
PROGRAM_BASE: Final = 3
PROGRAM_VALUE: Final = 4
PROGRAM_BITS: Final = 5
PROGRAM_SIGNED: Final = 6
PROGRAM_COLUMNS: Final = 7

# Columns of a line: its operation's as above, with first elements in place of values; its own first element and totals
# if it is a sum; how many operands, where each comes from, and how far apart its elements are (-1: it varies).
LINE_KIND: Final = 0
LINE_BITS: Final = 1
LINE_SIGNED: Final = 2
LINE_SHIFT: Final = 3
LINE_FACTOR: Final = 4
LINE_FIRST: Final = 5
LINE_TABLE: Final = 6
LINE_TABLE_SIZE: Final = 7
LINE_SLOPE: Final = 8
LINE_BASE: Final = 9
LINE_TOTAL: Final = 10
LINE_SLOTS: Final = 11
LINE_MODES: Final = 12
LINE_STRIDES: Final = 18
LINE_COLUMNS: Final = 21

# Where an operand comes from: a register, the states, or, from here on, a region of fault-free codes.
FROM_REGISTER: Final = 0
FROM_STATE: Final = 1
FROM_REGION: Final = 2

# What is known of a fault, in a thread's memory.
LABEL: Final = 0
LAST: Final = 1
DISTANCE_MAX: Final = 2
DISTANCE_END: Final = 3
DIFFER_END: Final = 4
LABEL_DIFFERS: Final = 5
OUTPUT_DIFFERS: Final = 6
MOVING: Final = 7
FRESH: Final = 8
FACTS: Final = 9

# What an upset's word is, by its place and name: the first row of its targets and how many, its elements, its bits, and
# whether it may be held.
WORD_TARGET: Final = 0
WORD_TARGETS: Final = 1
WORD_SIZE: Final = 2
WORD_BITS: Final = 3
WORD_HELD: Final = 4
WORD_COLUMNS: Final = 5

# The head of the net's memory: where its arrays start (in the order of `graph.Graph`, then `fuse.Fusion`), and numbers.
M_OP: Final = 0
M_SLOT: Final = 1
M_GATHER: Final = 2
M_FAN_START: Final = 3
M_FAN_TO: Final = 4
M_FAN_WEIGHT: Final = 5
M_PAIR_START: Final = 6
M_PAIR_TO: Final = 7
M_PAIR_FROM: Final = 8
M_LIST_START: Final = 9
M_LIST_A: Final = 10
M_LIST_B: Final = 11
M_BASE: Final = 12
M_SIZE: Final = 13
M_STATE: Final = 14
M_OUTPUT: Final = 15
M_BLOCKS: Final = 16
M_LIMITS: Final = 17
M_FUSED: Final = 18
M_REACH_START: Final = 19
M_REACH: Final = 20
M_UNIT_START: Final = 21
M_UNIT: Final = 22
M_PROGRAM: Final = 23
M_LINE: Final = 24
M_STATES: Final = 25
M_OUTPUTS: Final = 26
M_STEPS: Final = 27
M_FRAMES: Final = 28
M_EVERY: Final = 29
M_TOLERANCE: Final = 30
M_VARYING: Final = 31
M_HELD: Final = 32
M_HELD_WIDTH: Final = 33
M_CONSTANT: Final = 34
M_READ: Final = 35
M_READ_WIDTH: Final = 36
M_NEAR: Final = 37
M_DENSE: Final = 38
M_HEAD: Final = 39

# The head of a thread's memory: what to add to an element of each region for its fault-free code, then places.
W_PLACE: Final = 0
W_CUR: Final = 4
W_LISTED: Final = 5
W_COUNT: Final = 6
W_TOUCHED: Final = 7
W_SEEN: Final = 8
W_TOTAL: Final = 9
W_LATCHED: Final = 10
W_LATCH_MARK: Final = 11
W_LATCH_LIST: Final = 12
W_LATCH_COUNT: Final = 13
W_ACTIVE: Final = 14
W_DIFFERENCE: Final = 15
W_REGISTER: Final = 16
W_FACT: Final = 17
W_HEAD: Final = 18
