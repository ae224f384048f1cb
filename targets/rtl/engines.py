"""Which architecture computes a net, and with which options."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from eqcompile.rtl.architecture import Architecture, OptionValue
from eqcompile.toolchain.diagnostics import Diagnostic
from eqcompile.toolchain.ir import IntNet
from eqcompile.toolchain.registry import find_class, load_classes, names
from eqcompile.toolchain.requirements import Requirements

from .synth.fit import early_shortfalls, memory_shortfalls, weight_memory
from .synth.parts import PARTS

__all__ = ["AUTO", "Choice", "architecture", "architectures", "candidates", "choose", "foresee"]

AUTO = "auto"
TOO_LARGE = ("rtl-spram", "rtl-capacity")
"""Codes of refusals that other options may lift; the net itself is one that the engine takes."""


@cache
def architectures() -> Mapping[str, type[Architecture]]:
    """Every architecture that can be loaded, by name."""
    return load_classes("architectures", Architecture).entries


def architecture(name: str, **options: OptionValue) -> Architecture:
    """The architecture `name` with its options; KeyError if there is none."""
    return architectures()[name](**options)


def candidates(
    name: str, options: Mapping[str, OptionValue]
) -> tuple[tuple[Architecture, ...], tuple[Diagnostic, ...]]:
    """The architectures that a name, or `auto`, and options stand for, and what is wrong with the choice: of `auto`
    without options none, which means every one; else those that have all the options.

    Raises MissingToolError, PluginError: the architecture that is named cannot be loaded.
    """
    known = architectures()
    if name != AUTO and name in names("architectures"):
        find_class("architectures", name, Architecture)
    elif name != AUTO:
        what = f"there is no architecture {name!r}"
        return (), (Diagnostic("rtl-option", what, "arch", f"known: {', '.join(known)}"),)
    if name == AUTO:
        having = [kind for kind in known.values() if options.keys() <= kind.option_names()]
        if having:
            return tuple(kind(**options) for kind in having) if options else (), ()
        what = f"no architecture has {', '.join(sorted(options))} together"
        hint = "; ".join(f"{n} has {', '.join(sorted(kind.option_names()))}" for n, kind in known.items())
        return (), (Diagnostic("rtl-option", what, "arch", hint),)
    faults = []
    for option in sorted(options.keys() - known[name].option_names()):
        others = [n for n, kind in known.items() if option in kind.option_names()]
        what = f"the architecture {name} has no {option}"
        hint = f"use --arch {' or '.join(others)}" if others else "no other has it"
        faults.append(Diagnostic("rtl-option", what, option, hint))
    chosen = known[name](**{n: value for n, value in options.items() if n in known[name].option_names()})
    return (chosen,), tuple(faults)


def foresee(needs: Requirements, choices: Sequence[Architecture], parts: Collection[str]) -> tuple[Diagnostic, ...]:
    """What `choose` or the memory of the parts refuses for certain before quantization: nothing unless each of
    `choices` has a reason, else those of `serial` or the first."""
    reasons: dict[str, tuple[Diagnostic, ...]] = {}
    for choice in choices or [kind() for kind in architectures().values()]:
        memory = memory_shortfalls(choice.least_memory_bits(needs), choice, parts, needs.net.name)
        reasons[choice.name] = (*choice.preflight(needs), *memory)
        if not reasons[choice.name]:
            return ()
    return reasons.get("serial", next(iter(reasons.values())))


@dataclass(frozen=True)
class Choice:
    """An architecture with its options resolved, why it does not take the net (empty if it does), and, where several
    were tried, what each of them was judged by."""

    architecture: Architecture
    refusals: tuple[Diagnostic, ...]
    reasons: tuple[str, ...] = ()


def choose(net: IntNet, choices: Sequence[Architecture], parts: Collection[str]) -> Choice:
    """One of `choices` (empty: every architecture) for a verified net and the parts that the core must run on.

    It is the first by rank that takes the net and needs no more of the parts than they have, by the lower bounds that
    are known before it is built; then the first that may have its weights outside; else the first that takes the net,
    with these options if one does. If none does, what `serial` says, which takes most, or else the first.

    Raises UsageError: an option names a file that says nothing of the net.
    """
    tried = sorted(choices or [kind() for kind in architectures().values()], key=lambda a: a.rank(net))
    reasons: list[str] = []
    taking: list[Choice] = []
    refusing: list[Choice] = []
    outside: list[Architecture] = []
    for choice in tried:
        resolved = choice.resolved(net, parts)
        refusals = tuple(resolved.refusals(net))
        if not all(d.code in TOO_LARGE for d in refusals):
            refusing.append(Choice(resolved, refusals))
            reasons.append(f"{resolved.name} does not take the net: {refusals[0].what}")
            continue
        taking.append(Choice(resolved, refusals))
        if resolved.outside is not None:
            outside.append(resolved.outside)
        short = refusals or tuple(_short(net, resolved, parts))
        if short:
            reasons.append(f"{resolved.name} does not fit: {short[0].what}")
            continue
        cost = _cost(net, resolved, parts)
        if len(taking) > 1 and not cost:
            reasons.append(f"{resolved.name} is passed over: what it needs is not known before it is built")
            continue
        reasons.append(f"{resolved.name} is taken, the first that is left{cost}")
        return Choice(resolved, refusals, tuple(reasons) if len(tried) > 1 else ())
    for choice in outside:
        if not list(choice.refusals(net)) and not list(_short(net, choice, parts)):
            reasons.append(f"{choice.name} is taken with its weights in a memory outside ({choice.text})")
            return Choice(choice, (), tuple(reasons))
    if taking:
        return next((answer for answer in taking if not answer.refusals), taking[0])
    return next((answer for answer in refusing if answer.architecture.name == "serial"), refusing[0])


def _short(net: IntNet, architecture: Architecture, parts: Collection[str]) -> Iterator[Diagnostic]:
    for part in sorted({*parts} & {*PARTS}):
        yield from early_shortfalls(net, architecture, PARTS[part])
    yield from memory_shortfalls(architecture.memory_bits(net), architecture, parts, net.name)


def _cost(net: IntNet, architecture: Architecture, parts: Collection[str]) -> str:
    """What is known of its cost, of the parts if there are any."""
    least = [f"{count:,} {key}" for key, count in architecture.resources(net).items() if count]
    bits = architecture.memory_bits(net)
    if bits:
        known = [PARTS[name] for name in sorted({*parts} & {*PARTS})]
        blocks = [weight_memory(bits, part, single_port=not architecture.preloaded) for part in known]
        shares = f" ({', '.join(filter(None, blocks))})" if any(blocks) else ""
        least.append(f"{bits:,} bits of memory for weights{shares}")
    of = f" on {', '.join(sorted(parts))}" if parts else ""
    return f"; it needs at least {', '.join(least)}{of} [estimated]" if least else ""
