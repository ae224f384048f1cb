"""What the user may ask for, checked all at once."""

from __future__ import annotations

import math
from collections.abc import Iterator

from eqcompile.toolchain.options import FLOAT_WEIGHTS, QuantizeOptions, option_faults

from ..toolchain.diagnostics import Diagnostic, UsageError
from ..toolchain.ir import EqNet
from .exact import Map, moves
from .hoist import hoist
from .precision import averages, named_values

__all__ = ["check_options", "kinds_of", "option_errors"]


def check_options(options: QuantizeOptions) -> None:
    """Raise UsageError with every option that is out of its range."""
    faults = _range_faults(options)
    if faults:
        raise UsageError(faults)


def kinds_of(net: EqNet, options: QuantizeOptions) -> dict[str, str]:
    """The kind of every weight of the net: its own from `options.widths`, else `options.weights`.

    A name stands for the weight of that name, or for the only one that it begins, up to an underscore (`W_rec` for
    `W_rec_weight`); a dot reads as an underscore. Raises UsageError with every option that is out of its range, every
    name that stands for none or several weights, and every state or value that there is not.
    """
    kinds, faults = _kinds(net, options)
    if faults:
        raise UsageError(faults)
    return kinds


def option_errors(net: EqNet, options: QuantizeOptions) -> list[Diagnostic]:
    """All that `kinds_of` would refuse."""
    return _kinds(net, options)[1]


def _kinds(net: EqNet, options: QuantizeOptions) -> tuple[dict[str, str], list[Diagnostic]]:
    names = list(dict.fromkeys(op.weight for op in net.all_ops() if isinstance(op, Map) and not moves(net, op)))
    found = dict.fromkeys(names, options.weights)
    faults = _range_faults(options)
    for asked, kind in options.widths.items():
        plain = asked.replace(".", "_")
        fitting = [n for n in names if n == plain] or [n for n in names if n.startswith(f"{plain}_")]
        if len(fitting) == 1:
            found[fitting[0]] = kind
            continue
        what = f"{asked!r} stands for no weight of this net" if not fitting else f"{asked!r} begins several weights"
        hint = f"its weights: {', '.join(fitting or names)}"
        faults.append(Diagnostic("unknown-weight", what, f"--weights {asked}={kind}", hint))
    faults += _state_faults(net, options)
    return found, faults


def _range_faults(options: QuantizeOptions) -> list[Diagnostic]:
    faults = []
    for name, kind in (("weights", options.weights), *((f"weights of {n}", k) for n, k in options.widths.items())):
        if kind not in FLOAT_WEIGHTS:
            faults.append(
                Diagnostic("option-weights", f"{name} is {kind!r}", hint=f"one of {', '.join(FLOAT_WEIGHTS)}")
            )
    faults += option_faults(options)
    lo, hi = options.input_range
    if not (math.isfinite(lo) and math.isfinite(hi) and lo < hi):
        faults.append(Diagnostic("option-range", f"input_range is {lo} to {hi}, must be finite and rising"))
    if options.keep_labels is not None and options.max_lipschitz is not None:
        what = "keep_labels and max_lipschitz together: weaker weights change labels after the widths are chosen"
        hint = "choose widths with --keep-labels first, then ask for --max-lipschitz with these widths"
        faults.append(Diagnostic("option-together", what, hint=hint))
    return faults


def _state_faults(net: EqNet, options: QuantizeOptions) -> Iterator[Diagnostic]:
    """A diagnostic for each width of a state or value that there is not, and for guard bits where nothing averages."""
    if not (options.states or options.guards):
        return
    hoisted, _ = hoist(net)
    states, values, slow = [s.name for s in net.states], named_values(hoisted), averages(hoisted)
    for name, bits in options.states.items():
        if name not in states and name not in values:
            hint = f"its states: {', '.join(states)}; its values: {', '.join(values) or 'none'}"
            what = f"{name!r} is no state of this net, and no value that has a width of its own"
            yield Diagnostic("unknown-state", what, f"--states {name}={bits}", hint)
    for name, bits in options.guards.items():
        if name not in slow:
            what = f"{name!r} is no state that averages" if name in states else f"{name!r} is no state of this net"
            hint = f"states that average: {', '.join(slow) or 'none'}"
            yield Diagnostic("unknown-state", what, f"--guard-bits {name}={bits}", hint)
