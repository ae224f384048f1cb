"""The claims of a certificate that hold for every input."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from .changes import Change, Changes, Whole, norm_bound
from .reading import Net, demand

__all__ = ["block_claims"]


def norm_claims(changes: Changes, names: Sequence[str], norm: Mapping[str, Any]) -> None:
    """L, slack, diameter and codes of one norm of a block."""
    net, said = changes.net, f"{', '.join(names)}, {norm['norm']}"
    demand(norm["norm"] in ("2", "weighted 2", "maximum"), f"{said}: an unknown norm")
    w = np.resize(np.array([int(v) for v in norm["weights"].split()], dtype=object), changes.units)
    demand(bool((w > 0).all()) and norm["weights"].count(" ") in (0, changes.units - 1), f"{said}: weights")
    updates = [changes.of(net.updates[n], n) for n in names]
    spans = np.repeat([float(net.ends[n][1] - net.ends[n][0]) for n in names], [len(u.jump) for u in updates])
    jump, weights = np.concatenate([u.jump for u in updates]), w.astype(np.float64)
    if norm["norm"] == "maximum":
        rows = [sum(Fraction(s) / (1 << e) * x for s, x, e in r) for u in updates for r in _sums(u, w)]
        demand(all(r <= Fraction(norm["bound"]) * v for r, v in zip(rows, w, strict=True)), f"{said}: L")
        slack, diameter, codes = (jump / weights).max(), (spans / weights).max(), weights.max()
    else:
        bound = 0.0
        for k in range(max(len(u.terms) for u in updates)):
            parts = [
                np.ldexp(m.astype(np.float64), -e) * s
                for u in updates
                for s, m, e in (*u.terms, *_blank(u) * 9)[k : k + 1]
            ]
            matrix = weights[:, None] * np.concatenate(parts) / weights
            bound += norm_bound(matrix) + 2.0**-49 * float(np.linalg.norm(matrix))
        slack, diameter = (math.sqrt(float(((weights * v) ** 2).sum())) for v in (jump, spans))
        codes = 1.0 / weights.min()
        if len(names) == 1 and (w == w[0]).all() and bound * (1.0 + 2.0**-50) > norm["bound"]:
            # Linear maps one behind another: the product of their norms.
            bound, rough = updates[0].norms()
            slack = rough * float(weights[0])
        demand(bound * (1.0 + 2.0**-50) <= norm["bound"], f"{said}: L = {norm['bound']}, proved is {bound}")
    for name, value in (("slack", slack), ("diameter", diameter)):
        demand(value * (1.0 + 2.0**-40) <= norm[name], f"{said}: {name} {norm[name]}, proved is {value}")
    distance = norm["diameter"]
    for tick in range(1, 1 + max((int(t) for t in norm["codes_after"]), default=0)):
        distance = min(norm["diameter"], norm["bound"] * distance + norm["slack"])
        stated = norm["codes_after"].get(str(tick), math.inf)
        demand(math.floor(min(distance * codes, float(spans.max()))) <= stated, f"{said}: {stated} codes after {tick}")


def _blank(change: Change) -> tuple[tuple[float, Whole, int], ...]:
    return ((0.0, 0 * change.terms[0][1], 0),)


def _sums(change: Change, w: Whole) -> Iterable[list[tuple[float, int, int]]]:
    sums = [abs(m) @ w for _, m, _ in change.terms]
    for i in range(len(change.jump)):
        yield [(s, x[i], e) for (s, _, e), x in zip(change.terms, sums, strict=True)]


BLOCK = {
    *("states", "units", "bound", "certified", "gates", "verdict", "norms", "rounding_lsb", "ball_lsb"),
    *("ball_lsb_per_unit", "steps_to_1_lsb_of_the_ball", "upset_lsb", "upset_adds_lsb"),
}


def block_claims(net: Net, block: Mapping[str, Any]) -> None:
    """All that is said of one block of states."""
    names = block["states"]
    said = ", ".join(names)
    demand(set(block) <= BLOCK, f"{said}: an unknown claim {sorted(set(block) - BLOCK)}")
    demand(bool(names) and set(names) <= set(net.shapes), f"{said}: no states of the net")
    changes = Changes(net, names)
    selections = {op.out for op in net.blocks["step"] if op.kind == "select"}
    demand(block["units"] == changes.units and set(block["gates"]) <= selections, f"{said}: units or gates")
    for norm in block["norms"]:
        norm_claims(changes, names, norm)
    # Lengths are in codes of the finest state.
    fracs = {s["name"]: s["frac"] or 0 for s in net.meta["states"]}
    finest = max(fracs[n] for n in names)
    weights = " ".join(str(1 << (finest - fracs[n])) for n in names for _ in range(math.prod(net.shapes[n])))
    spans = [(w := 1 << (finest - fracs[n])) * w * (net.ends[n][1] - net.ends[n][0]) ** 2 for n in names]
    squares = sum(v * math.prod(net.shapes[n]) for v, n in zip(spans, names, strict=True))
    diameter = math.sqrt(squares) * (1.0 + 2.0**-50)
    bound, slack = block["bound"], block["rounding_lsb"]
    plain = {"norm": "2", "weights": weights, "bound": bound, "slack": slack, "diameter": diameter * 1.001}
    # While gates that may hold a state for ever are open.
    opened = Changes(net, names, block["gates"]) if block["gates"] else changes
    norm_claims(opened, names, plain | {"codes_after": {}})
    contracts = bound < 1.0 and not block["gates"]
    demand(contracts == ("ball_lsb" in block), f"{said}: a ball")
    if contracts:
        demand(block["ball_lsb"] >= slack / (1.0 - bound), f"{said}: ball {block['ball_lsb']}")
        demand(
            block["ball_lsb_per_unit"] >= block["ball_lsb"] / math.sqrt(changes.units) * (1 - 2.0**-50),
            f"{said}: ball a unit",
        )
        left, steps = diameter, block["steps_to_1_lsb_of_the_ball"]
        for _ in range(steps):
            left *= bound
        demand(left <= 1.0, f"{said}: {steps} steps to the ball")
        bits = max(net.meta["formats"][n]["bits"] for n in names)
        demand(block["upset_lsb"] == 2.0 ** (bits - 1), f"{said}: the size of an upset")
        for ticks, value in block["upset_adds_lsb"].items():
            demand(
                value >= block["upset_lsb"] * bound ** int(ticks) * (1 - 2.0**-45),
                f"{said}: an upset after {ticks} steps",
            )
    balls = [(n["bound"], n["slack"], n["diameter"]) for n in block["norms"]]
    balls += [] if block["gates"] else [(bound, slack, diameter)]
    small = any(b < 1.0 and 2.0 * r / (1.0 - b) < d for b, r, d in balls)
    demand(small or not block["certified"], f"{said}: certified")
