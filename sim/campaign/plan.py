"""How a campaign draws its faults: chosen once, before the first is injected, and written into the campaign."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal, TypedDict

from ...toolchain.diagnostics import Diagnostic, UsageError
from ...toolchain.typed_json import decode_as
from . import statistics

__all__ = ["AUTO", "EXHAUSTIVE", "FEWEST", "Plan", "PlanDocument", "Stratification", "make_plan"]

AUTO, EXHAUSTIVE = "auto", "exhaustive"
Method = Literal["exhaustive", "without replacement", "with replacement", "stratified"]
Stratification = Literal["site", "bit", "tick"]
"""Strata: sites; bits of a site; ticks of a bit."""
LISTED = 5_000_000
"""Populations up to this size are shuffled as a whole (8 bytes a fault) and drawn without replacement; of a larger one
a fault is seldom drawn twice."""
FEWEST = 20
"""Faults of a stratum that tell a rate."""
_CHUNKS, _SMALLEST, _LARGEST = 100, 200, 20_000
_COUNTED_CHUNKS, _MOST_COUNTED = 4, 1 << 30
"""A chunk of a counted campaign costs a tenth of a second beside its faults."""


class PlanDocument(TypedDict):
    """The fields of a plan, the number of its chunks, and the plan in a sentence (`how`)."""

    population: int
    method: Method
    size: int
    chunk: int
    chunks: int
    seed: int
    margin: float
    confidence: float
    stop_at_margin: float | None
    looks: list[int]
    strata: Stratification | None
    counted: bool
    how: str


@dataclass(frozen=True, kw_only=True)
class Plan:
    """`size` faults of a population, in chunks of `chunk` faults (the last may be smaller).

    Chunk k depends on `seed` and k alone. `looks`: with `stop_at_margin`, the numbers of chunks after which the
    campaign may stop; empty without. `strata`: by what faults are stratified, None without.
    `counted`: faults are drawn by a counter (`faults.draw`), and counted where they are injected.
    """

    population: int
    method: Method
    size: int
    chunk: int
    seed: int
    margin: float
    confidence: float
    stop_at_margin: float | None = None
    looks: tuple[int, ...] = ()
    strata: Stratification | None = None
    counted: bool = False

    @property
    def chunks(self) -> int:
        return -(-self.size // self.chunk)

    def faults_in(self, number: int) -> int:
        """Faults in chunk `number`."""
        return min(self.chunk, self.size - number * self.chunk)

    def interval(self, hits: int, faults: int) -> statistics.Interval:
        """The interval of a rate over all faults so far, as this plan allows to state it. Not of stratified faults,
        which are no sample of the population as they are: `estimates.rate_of` weighs them."""
        assert self.strata is None, "rates of stratified faults are weighted by strata"
        if self.looks:
            return statistics.exact(hits, faults, confidence=self.confidence, looks=len(self.looks))
        finite = None if self.method == "with replacement" else self.population
        return statistics.wilson(hits, faults, confidence=self.confidence, population=finite)

    def to_json(self) -> PlanDocument:
        """JSON values; `how` says what they mean."""
        return {
            "population": self.population,
            "method": self.method,
            "size": self.size,
            "chunk": self.chunk,
            "chunks": self.chunks,
            "seed": self.seed,
            "margin": self.margin,
            "confidence": self.confidence,
            "stop_at_margin": self.stop_at_margin,
            "looks": list(self.looks),
            "strata": self.strata,
            "counted": self.counted,
            "how": self.how,
        }

    @property
    def how(self) -> str:
        """The plan in a sentence."""
        told = {
            "exhaustive": f"all {self.population:,} faults",
            "without replacement": f"{self.size:,} of {self.population:,} faults, each at most once",
            "with replacement": f"{self.size:,} draws from {self.population:,} faults",
            "stratified": f"{self.size:,} draws from {self.population:,} faults",
        }[self.method]
        if self.strata is not None:
            by = {"site": "site", "bit": "site x bit", "tick": "site x bit x tick"}[self.strata]
            return (
                f"{told}, as many from every stratum ({by}), seed {self.seed}; rates weigh strata by their shares of "
                f"the population, intervals at {self._level}"
            )
        if not self.looks:
            ends = "the rates are exact" if self.method == "exhaustive" else "Wilson's intervals"
            return f"{told}, seed {self.seed}; {ends}" + ("" if self.method == "exhaustive" else f" at {self._level}")
        return (
            f"at most {told}, seed {self.seed}; it may stop after {', '.join(map(str, self.looks))} chunks of "
            f"{self.chunk:,}, once every outcome is known to +/- {self.stop_at_margin:.3%}; exact (Clopper-Pearson) "
            f"intervals, which hold at {self._level} for all {len(self.looks)} looks together"
        )

    @property
    def _level(self) -> str:
        return f"{self.confidence:.4g} confidence"

    @classmethod
    def from_json(cls, document: PlanDocument) -> Plan:
        """The plan of a `PlanDocument`. Raises ReadError, a ValueError, if it is none."""
        return decode_as(cls, {f.name: document[f.name] for f in fields(cls) if f.name in document}, "plan")  # type: ignore[literal-required]


def make_plan(
    population: int,
    count: int | Literal["auto", "exhaustive"],
    *,
    enumerated: bool,
    seed: int,
    margin: float,
    confidence: float,
    stop_at_margin: float | None = None,
    strata: Stratification | None = None,
    counted: bool = False,
    stratum_count: int = 0,
) -> Plan:
    """Choose the method and the number of faults.

    `auto` takes the number that knows any rate to +/- `margin`; the whole population where that is no more. Faults that
    can be numbered (`enumerated`) are drawn without replacement and the finite formula holds; else each is drawn anew
    and the number is the one of an infinite population. With `strata`, of which there are `stratum_count`, each gets as
    many faults, at least `FEWEST` by `auto`; a campaign of all faults needs none. With `counted` faults are
    drawn with replacement, in few large chunks. Raises UsageError if there is nothing to inject, for strata that cannot
    be drawn from or get fewer than two faults, and for counted faults that are not drawn all alike.
    """
    if population < 1:
        what = "this fault model has 0 faults in this net"
        raise UsageError(Diagnostic("no-faults", what, "--model", "choose another model, or other sites"))
    listed = enumerated and population <= LISTED and not counted
    wanted = count if isinstance(count, int) else None
    looks_most = None
    if stop_at_margin is not None:
        looks_most = wanted or _most_for(stop_at_margin, confidence)
        wanted = looks_most
    if count == EXHAUSTIVE or (listed and wanted is None and population <= _needed(None, margin, confidence)):
        if not enumerated:
            what = "the faults of this model have random parts and cannot be listed"
            raise UsageError(Diagnostic("not-exhaustive", what, "--faults", "--faults auto draws from it"))
        size, method = population, EXHAUSTIVE
    elif listed:
        size = min(population, wanted or _needed(population, margin, confidence))
        method = EXHAUSTIVE if size == population else "without replacement"
    else:
        size, method = wanted or _needed(None, margin, confidence), "with replacement"
    if counted and (method == EXHAUSTIVE or strata is not None or stop_at_margin is not None):
        what = "a counted campaign draws a number of faults that is fixed beforehand, all alike"
        hint = "leave --counted out; eqfault exhaust injects every fault"
        raise UsageError(Diagnostic("counted", what, "--counted", hint))
    if strata is not None and method != EXHAUSTIVE:
        _require_strata(enumerated, stop_at_margin, stratum_count, wanted)
        size, method = wanted or max(size, FEWEST * stratum_count), "stratified"
    else:
        strata = None
    share, most = (_COUNTED_CHUNKS, _MOST_COUNTED) if counted else (_CHUNKS, _LARGEST)
    chunk = min(most, max(_SMALLEST, -(-size // share)))
    chunks = -(-size // chunk)
    stops = looks_most is not None and method != EXHAUSTIVE
    return Plan(
        population=population,
        method=method,  # type: ignore[arg-type]
        size=size,
        chunk=chunk,
        seed=seed,
        margin=margin,
        confidence=confidence,
        stop_at_margin=stop_at_margin if stops else None,
        looks=statistics.look_schedule(chunks, max(1, chunks // 32)) if stops else (),
        strata=strata,
        counted=counted,
    )


def _require_strata(enumerated: bool, stop_at_margin: float | None, strata: int, wanted: int | None) -> None:
    """Refuse strata that a campaign cannot be drawn by."""
    if not enumerated:
        what = "the faults of this model have random parts and cannot be drawn by strata"
        raise UsageError(Diagnostic("strata", what, "--stratify", "leave --stratify out"))
    if stop_at_margin is not None:
        what = "a stratified campaign has a number of faults that is fixed beforehand"
        raise UsageError(Diagnostic("strata", what, "--stop-at-margin", "leave --stop-at-margin or --stratify out"))
    if wanted is not None and wanted < 2 * strata:
        what = f"{wanted} faults for {strata} strata, at least 2 each are needed"
        raise UsageError(Diagnostic("strata", what, "--faults", f"--faults {2 * strata} or more, or fewer strata"))


def _needed(population: int | None, margin: float, confidence: float) -> int:
    return statistics.sample_size(population, margin=margin, confidence=confidence)


def _most_for(margin: float, confidence: float) -> int:
    """Faults after which even a rate of one half is known to +/- `margin` at the last look. There are at most seven
    looks; an exact interval is wider than the normal one by less than one fault on each side."""
    return statistics.sample_size(None, margin=margin, confidence=1 - (1 - confidence) / 7) + round(2 / margin)
