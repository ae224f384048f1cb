"""The claims of a certificate about given samples: labels and codes after an upset of any size of any states."""

from __future__ import annotations

import base64
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .changes import Changes, growth, norm_bound
from .reading import Box, Codes, Net, Op, Reals, demand, evaluate, up

__all__ = ["sample_claims"]

EXACT = 2.0**52


def sample_claims(net: Net, samples: Mapping[str, Any], blocks: Sequence[Mapping[str, Any]]) -> None:
    """Every row, and every sample at every number of ticks."""
    proof, count = samples["proof"], samples["count"]
    ticks = proof["ticks"]
    demand(net.meta["schedule"]["tolerance"] == 0 and not net.meta["schedule"]["frames"], "a tolerance, or frames")
    demand(0 < ticks < net.meta["schedule"]["steps"], "more ticks than the net runs")
    safe, apart = (_unpacked(proof[name], (count, ticks)) for name in ("safe", "apart"))
    inputs = {i["name"]: _unpacked(proof["inputs"][i["name"]], (count, *i["shape"])) for i in net.meta["inputs"]}
    for i in net.meta["inputs"]:
        low, high = net.ends[i["name"]]
        demand(bool(((low <= inputs[i["name"]]) & (inputs[i["name"]] <= high)).all()), f"codes of {i['name']}")
    region = _Region(net, blocks)
    demand(samples.get("not_hit", []) == sorted(region.counts), "the states that are not hit")
    settled = 0
    for number in range(count):
        proved, far, still = region.sample({name: v[number] for name, v in inputs.items()}, ticks)
        settled += still
        demand(bool((proved | (safe[number] == 0)).all()), f"sample {number}: its label")
        demand(bool((apart[number] >= far).all()), f"sample {number}: its codes")
    demand([row["ticks"] for row in samples["rows"]] == list(range(1, ticks + 1)), "the rows")
    for t, row in enumerate(samples["rows"]):
        stated = (row["safe"], row["apart_median"], row["apart_most"])
        values = (safe[:, t].mean(), np.median(apart[:, t]), apart[:, t].max())
        for number_, value in zip(stated, values, strict=True):
            demand(number_["kind"] == "proved" and number_["value"] == float(value), f"the row of {t + 1} ticks")
    first = [int(v.argmax()) + 1 if v.any() else None for v in safe]
    demand(samples["harmless_from"] == first, "the ticks from which an upset is harmless")
    demand(samples["never"]["value"] == first.count(None) / count, "the share without a proof")
    demand(samples["settled"]["value"] == settled / count, "the share that stands still")
    if "local" in samples:
        _local_claims(region, samples["local"], inputs)
    for example in samples.get("counterexamples", []):
        _replay(region, example, {name: v[example["sample"]] for name, v in inputs.items()})


def _local_claims(region: _Region, local: Mapping[str, Any], inputs: Mapping[str, Codes]) -> None:
    radii = local["radius"]
    claims = list(zip(local["samples"], radii, local["apart"], strict=True))
    demand(local["share"]["value"] == sum(r > 0 for r in radii) / len(radii), "the share with a radius")
    rates = [(max(far, 1) / radius) ** (1.0 / local["ticks"]) for _, radius, far in claims if radius]
    demand(bool(rates) == ("rate" in local), "a rate")
    demand(not rates or math.isclose(local["rate"]["value"], float(np.median(rates)), rel_tol=1e-12), "the rate")
    for sample, radius, far in claims:
        if radius > 0:
            codes = {name: v[sample] for name, v in inputs.items()}
            safe, apart, settled = region.sample(codes, local["ticks"], radius)
            demand(settled and bool(safe[-1]) and int(apart[-1]) <= far <= radius, f"sample {sample}: radius {radius}")


def _replay(region: _Region, example: Mapping[str, Any], codes: Mapping[str, Codes]) -> None:
    """A run from another start, beside that of the net."""
    said, net = f"sample {example['sample']}: its counterexample", region.net
    start = {n: _unpacked(example["start"][n], shape) for n, shape in net.shapes.items()}
    for n, codes_ in start.items():
        demand(bool(((net.ends[n][0] <= codes_) & (codes_ <= net.ends[n][1])).all()), f"{said}: its start")
    ends, labels, periods = [], [], []
    drive: dict[str, Box] = {name: (v, v) for name, v in codes.items()}
    evaluate(net, net.blocks["drive"], drive)
    for states in (region.first(drive), start):
        for _ in range(example["ticks"]):
            states = region.step(drive, states)
        later, period = region.step(drive, states), 1
        while period <= example["period"] and any(not np.array_equal(later[n], states[n]) for n in states):
            later, period = region.step(drive, later), period + 1
        demand(period <= example["period"], f"{said}: its period")
        periods.append(period)
        ends.append(states)
        scope: dict[str, Box] = {**drive, **{n: (v, v) for n, v in states.items()}}
        evaluate(net, net.blocks["readout"], scope)
        labels.append(int(scope[region.logits][0].reshape(-1, scope[region.logits][0].shape[-1])[0].argmax()))
    far = max(int(np.abs(ends[0][n] - ends[1][n]).max()) for n in start)
    demand(labels == example["labels"] and far == example["codes"], f"{said}: labels or codes")
    kind = "cycle" if max(periods) > 1 else "two fixed points"
    demand(max(periods) == example["period"] and kind == example["what"] and (far > 0 or kind == "cycle"), said)


def _unpacked(text: str, shape: tuple[int, ...]) -> Codes:
    values = np.frombuffer(zlib.decompress(base64.b64decode(text, validate=True)), "<i8")
    return values.astype(np.int64).reshape(shape)


@dataclass(frozen=True)
class _Readout:
    """Logits `(matrix h + bias + half) >> shift`, plus `added`."""

    matrix: Codes
    bias: Codes
    shift: int
    added: tuple[str, ...]


class _Region:
    """Propagates what the states can be."""

    def __init__(self, net: Net, blocks: Sequence[Mapping[str, Any]]) -> None:
        self.net = net
        classes = [o["value"] for o in net.meta["outputs"] if o["kind"] == "classes"]
        demand(len(classes) == 1, "one output of classes")
        self.logits = classes[0]
        self.counts = net.counts()
        states = [n for n in net.shapes if n not in self.counts]
        self.state = states[0] if len(states) == 1 else None
        single = self.state is not None and len(blocks) == 1 and not blocks[0]["gates"]
        self.block = blocks[0] if single else None
        self.readout = self._affine() if self.state is not None else None
        self.local: tuple[Op, Reals, Reals] | None = None
        self.held: Codes = np.zeros(1, np.int64)
        if self.state is not None:
            changes = Changes(net, [self.state])
            makers = {op.out: op for op in net.blocks["step"]}
            update = makers.get(net.updates[self.state])
            limit = net.hold(update) if update is not None and update.kind == "select" else None
            if update is not None and limit is not None:
                update, self.held = makers.get(update.reads["a"]), limit
            if update is not None and update.kind in ("lookup", "interpolate"):
                before = changes.known.get(update.reads["x"])
                if before is not None and before.signed:
                    (_, matrix, shift), *_ = before.terms
                    self.local = update, np.ldexp(matrix.astype(np.float64), -shift), before.jump

    def step(self, drive: Mapping[str, Box], states: Mapping[str, Codes]) -> dict[str, Codes]:
        """One tick of a run."""
        net = self.net
        scope: dict[str, Box] = {**drive, **{n: (v, v) for n, v in states.items()}}
        evaluate(net, net.blocks["step"], scope)
        return {n: np.broadcast_to(scope[net.updates[n]][0], net.shapes[n]) for n in net.shapes}

    def sample(
        self, codes: Mapping[str, Codes], ticks: int, radius: int | None = None
    ) -> tuple[NDArray[np.bool_], Codes, bool]:
        """By ticks: whether the label is safe, and how many codes a unit can be off; whether the run stands still. An
        upset moves no unit by more than `radius` codes, or by any number."""
        net, total = self.net, self.net.meta["schedule"]["steps"]
        drive: dict[str, Box] = {name: (v, v) for name, v in codes.items()}
        evaluate(net, net.blocks["drive"], drive)
        rows = [self.first(drive)]
        while len(rows) <= total:
            rows.append(self.step(drive, rows[-1]))
            if all(np.array_equal(rows[-1][n], rows[-2][n]) for n in net.shapes):
                rows += [rows[-1]] * (total + 1 - len(rows))
        settled = all(np.array_equal(r[n], rows[-1][n]) for r in rows[total - ticks :] for n in net.shapes)
        safe, apart = np.zeros(ticks, bool), np.zeros(ticks, np.int64)
        for length in [ticks] if settled else range(1, ticks + 1):
            run = _Run(self, drive, rows[total - length :], radius)
            for t in range(length):
                run.advance()
                if settled or t == length - 1:
                    safe[t], apart[t] = run.verdict()
        return safe, apart, settled

    def first(self, drive: Mapping[str, Box]) -> dict[str, Codes]:
        """States before the first tick."""
        start = {}
        for s in self.net.meta["states"]:
            value = np.zeros(1, np.int64)
            if s["init"] is not None:
                value = drive[s["init"]][0] if s["init"] in drive else self.net.params[s["init"]]
            start[s["name"]] = np.broadcast_to(value, tuple(s["shape"]))
        return start

    def _affine(self) -> _Readout | None:
        makers = {op.out: op for op in self.net.blocks["readout"]}
        at, shift, factor, scaled, added = self.logits, 0, 1, False, list[str]()
        while at in makers:
            op = makers[at]
            if op.kind == "add" and not scaled and sum(n in self.net.params for n in op.reads.values()) == 1:
                at, constant = sorted(op.reads.values(), key=lambda n: n in self.net.params)
                added.append(constant)
            elif (
                op.kind == "rescale"
                and factor == 1
                and shift == 0
                and self.net.params[op.reads["multiplier"]].size == 1
            ):
                at, shift = op.reads["x"], op.fields["shift"]
                factor = int(self.net.params[op.reads["multiplier"]].ravel()[0])
            elif op.kind == "linear" and op.reads["x"] == self.state and len(self.net.shapes[self.state]) == 1:
                matrix, bias = self.net.linear(op, self.net.shapes[self.state])
                low, high = self.net.ends[self.state]
                if 2.0 * float(np.abs(matrix).sum(axis=1).max()) * abs(factor) * (high - low) >= EXACT:
                    return None
                return _Readout(matrix * factor, bias * factor, shift, tuple(added))
            else:
                return None
        return None


class _Run:
    """What an upset can leave, tick after tick, around one fault-free run."""

    def __init__(
        self, region: _Region, drive: Mapping[str, Box], rows: Sequence[Mapping[str, Codes]], radius: int | None
    ) -> None:
        self.region, self.drive, self.rows = region, drive, list(rows)
        net = region.net
        self.centre = dict(self.rows.pop(0))
        self.boxes: dict[str, Box] = {}
        for n, (low, high) in ((n, net.ends[n]) for n in net.shapes):
            far = 0 if n in region.counts else high - low if radius is None else radius
            self.boxes[n] = np.maximum(self.centre[n] - far, low), np.minimum(self.centre[n] + far, high)
        self.distance = self._of_boxes()

    def _off(self, name: str) -> Codes:
        low, high = self.boxes[name]
        return np.maximum(high - self.centre[name], self.centre[name] - low).ravel()

    def _of_boxes(self) -> float:
        squares = sum(int((self._off(n) ** 2).sum()) for n in self.boxes)
        return math.nextafter(math.sqrt(squares), math.inf)

    def _ball(self) -> tuple[str, Codes, float] | None:
        name = self.region.state
        return None if name is None else (name, self.centre[name], self.distance)

    def advance(self) -> None:
        """One tick."""
        region, net = self.region, self.region.net
        scope = {**self.drive, **self.boxes}
        evaluate(net, net.blocks["step"], scope, self._ball())
        moved = {n: self._off(n) > 0 for n in self.boxes}
        before, self.centre = self.distance, dict(self.rows.pop(0))
        for n, shape in net.shapes.items():
            low, high = scope[net.updates[n]]
            self.boxes[n] = np.broadcast_to(low, shape), np.broadcast_to(high, shape)
        self.distance = self._of_boxes()
        if region.state is None or region.block is None:
            return
        contracted = (region.block["bound"] * before + region.block["rounding_lsb"]) * (1.0 + 2.0**-50)
        self.distance = min(self.distance, contracted, self._local(scope, moved[region.state], before))
        far, at, (low, high) = math.floor(self.distance), self.centre[region.state], self.boxes[region.state]
        self.boxes[region.state] = np.maximum(low, at - far), np.minimum(high, at + far)

    def _local(self, scope: Mapping[str, Box], moved: NDArray[np.bool_], before: float) -> float:
        if self.region.local is None or self.region.state is None:
            return math.inf
        op, matrix, jump = self.region.local
        table = self.region.net.table(op)
        low, high = (np.clip(v.ravel() - op.fields["first"], 0, len(table) - 1) for v in scope[op.reads["x"]])
        slopes = _slopes(table)
        gain = np.array([slopes[a : b + 1].max() for a, b in zip(low, high, strict=True)])
        alive = self._off(self.region.state) > 0
        held = np.broadcast_to(2.0 * self.region.held.ravel(), gain.shape)
        after = up(up(gain * jump) + (0.0 if (np.diff(table) == 1).all() else 1.0) + held)[alive]
        rounding = math.sqrt(float((after * after).sum())) * (1.0 + 2.0**-40)
        part = up(gain[alive])[:, None] * matrix[alive][:, moved]
        norm = (norm_bound(part) + 2.0**-50 * float(np.linalg.norm(part))) if part.size else 0.0
        return (norm * before + rounding) * (1.0 + 2.0**-50)

    def verdict(self) -> tuple[bool, int]:
        """Whether no other label can be reached, and by how many codes a unit can be off."""
        region, net = self.region, self.region.net
        far = max(int(self._off(n).max()) for n in self.boxes)
        scope = {**self.drive, **self.boxes}
        point: dict[str, Box] = {**self.drive, **{n: (v, v) for n, v in self.centre.items()}}
        evaluate(net, net.blocks["readout"], scope, self._ball())
        evaluate(net, net.blocks["readout"], point)
        (low, high), exact = scope[region.logits], point[region.logits][0]
        if exact.ndim > 1 or region.readout is None or region.state is None:
            rows = [
                (a, b, c) for a, b, c in zip(*(v.reshape(-1, exact.shape[-1]) for v in (low, high, exact)), strict=True)
            ]
            return all(_leads(a[int(c.argmax())] - b, int(c.argmax())) for a, b, c in rows), far
        top, r = int(exact.argmax()), region.readout
        rows_ = r.matrix[top] - r.matrix
        less, more = (v.ravel() - self.centre[region.state].ravel() for v in self.boxes[region.state])
        by_box = np.maximum(rows_, 0) @ less + np.minimum(rows_, 0) @ more
        size = up(np.sqrt((rows_ * rows_).sum(axis=1).astype(np.float64)))
        by_ball = -np.floor(up(size * self.distance)).astype(np.int64)
        value = r.matrix @ self.centre[region.state].ravel() + r.bias
        fixed = sum((np.broadcast_to(net.params[n], value.shape) for n in r.added), np.zeros_like(value))
        # floor(a) - floor(b) >= floor(a - b), whatever is added to both before.
        lead = ((value[top] - value + np.maximum(by_box, by_ball)) >> r.shift) + fixed[top] - fixed
        return _leads(np.maximum(lead, low[top] - high), top), far


def _leads(lead: Codes, top: int) -> bool:
    """Whether the label's logit exceeds all others; ties go to the lowest index."""
    index = np.arange(len(lead))
    return bool(((lead >= (index < top)) | (index == top)).all())


def _slopes(table: Codes) -> Reals:
    """Of a continuous function within half a code of the table, at each entry: one over the length of its run of equal
    entries, none in the first and last; where neighbours differ by more than 1, the slope of `growth` everywhere."""
    steps = np.diff(table)
    if not steps.size or int(np.abs(steps).max()) > 1:
        return np.full(len(table), growth(table)[0])
    run = np.concatenate([[0], np.cumsum(steps != 0)])
    slopes: Reals = up(1.0 / np.bincount(run))
    slopes[[0, -1]] = 0.0
    return np.asarray(slopes[run])
