"""What a lattice engine needs at least, known from the net in milliseconds: enough to say that a part is too small."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from eqcompile.rtl.datapath import Clocked, Datapath
from eqcompile.toolchain.ir import IntNet, ops
from eqcompile.toolchain.ir.ops import Op

from .plan import plan_of
from .unit import DSP_BITS, is_product

__all__ = ["resources"]


def resources(net: IntNet, *, passes: int = 1, units: int | None = None) -> dict[str, int]:
    """The engine's own needs, the bus shell and a trace left out, for a `net` without refusals.

    `dsp`: multiplier blocks of 18 by 18 bits, signed; `ff`: registers of the cells, which are most of them, a lower
    bound; `weight_bits`: of the weight memories; `table_bits`: of activation tables, in all units; `state_bits`: of
    states, both banks, in cells and units.
    """
    plan = plan_of(net, passes=passes, units=units)
    path = Datapath(net, Clocked())
    after = [*net.drive, *net.step]
    weighing = int((np.abs(plan.words).max(axis=0) > 1).sum())
    busy = int(plan.words.any(axis=0).sum())
    code, total = plan.code_format.bits, plan.sum_format.bits
    weight, state = plan.weight_format.bits, net.formats[plan.operand].bits
    states = sum(net.formats[s.name].bits for s in net.states)
    blocks = -(-weight // DSP_BITS) * -(-code // DSP_BITS)
    return {
        "dsp": weighing * blocks + plan.units * _products(path, after) + _products(path, net.readout),
        # Moving code and its copy, weight with the memory's register, sum, leaving sum, arrived code.
        "ff": busy * (2 * code + 2 * weight + 2 * total + state),
        "weight_bits": plan.words.size * weight,
        "table_bits": plan.units * _tables(path, after) + _tables(path, net.readout),
        "state_bits": 2 * plan.cells * plan.passes * state + 2 * plan.units * plan.share * plan.passes * states,
    }


def _products(path: Datapath, block: Iterable[Op]) -> int:
    """Multiplier blocks of the operations after a map, once."""
    return sum(_blocks(*_operands(path, op)) for op in block)


def _operands(path: Datapath, op: Op) -> tuple[int, int]:
    """Bits of the factors of the product in `op`; zeros if there is none."""

    def bits(name: str) -> int:
        return int(path.shape(name).width)

    match op:
        case ops.Mul(a=a, b=b):
            return bits(a), bits(b)
        case ops.Rescale(x=x, multiplier=multiplier) if is_product(path, op):
            # What exceeds a block's operand is added.
            return min(bits(x), DSP_BITS), bits(multiplier)
        case ops.DampFixed(old=old, new=new, multiplier=multiplier):
            is_power = multiplier & (multiplier - 1) == 0
            return (0, 0) if is_power else (1 + max(bits(old), bits(new)), multiplier.bit_length())
        case ops.Interpolate(slope=slope, shift=shift):
            return bits(slope), shift
        case _:
            return 0, 0


def _blocks(a: int, b: int) -> int:
    """Multiplier blocks of a product; a factor of one bit is logic."""
    return 0 if min(a, b) < 2 else -(-a // DSP_BITS) * -(-b // DSP_BITS)


def _tables(path: Datapath, block: Iterable[Op]) -> int:
    bits = 0
    for op in block:
        tables = {ops.Lookup: ("table",), ops.Interpolate: ("base", "slope")}.get(type(op), ())
        for field in tables:
            name = getattr(op, field)
            bits += path.net.param(name).size * int(path.shape(name).width)
    return bits
