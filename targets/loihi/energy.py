"""Events of a run, and what they would cost on the chip.

Counts are simulated. Energy and time are estimated: counts times the figures of Davies et al., "Loihi: A Neuromorphic
Manycore Processor with On-Chip Learning", IEEE Micro 38(1), 82-99, 2018, table 2 (p. 96): pre-silicon SDF and SPICE
simulations at 0.75 V, "consistent with early post-silicon characterization". No such figures are published for Loihi 2,
so nothing is estimated there. Static power, host, input and output are not included.

This file stands alone: it is also part of the emitted folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from numpy.typing import NDArray

__all__ = ["FIGURES", "Estimate", "Events", "counted", "estimate", "estimates", "report", "summary", "text"]

SOURCE = "Davies et al., IEEE Micro 38(1), 2018, table 2 (pre-silicon simulation, 0.75 V)"
FIGURES: Mapping[str, float] = {
    "synaptic_op_pj": 23.6,
    "neuron_active_pj": 81.0,
    "neuron_inactive_pj": 52.0,
    "spike_within_tile_pj": 1.7,
    "hop_east_west_pj": 3.0,
    "hop_north_south_pj": 4.0,
    "synaptic_op_ns": 3.5,
    "neuron_active_ns": 8.4,
    "neuron_inactive_ns": 5.3,
    "barrier_min_ns": 113.0,
    "barrier_max_ns": 465.0,
}
"""The synaptic operation's energy is published as a minimum, its time as a maximum; the barrier as 1 to 32 tiles."""


@dataclass(frozen=True)
class Events:
    """Means over samples, simulated. `streams`: changed codes sent; `synops`: weights that they met; `moved`: codes of
    a state that changed; `per_tick`: `streams` of the step, tick by tick; `ticks`: made, settled or not."""

    samples: int
    ticks: int
    streams: Mapping[str, float]
    synops: Mapping[str, float]
    moved: Mapping[str, float]
    per_tick: Mapping[str, tuple[float, ...]]
    settled_after: float


@dataclass(frozen=True)
class Estimate:
    """For one sample: energy in nJ by cause, and the range of the time of one time step and of the whole in ns."""

    energy_nj: Mapping[str, float]
    total_nj: float
    time_step_ns: tuple[float, float]
    total_ns: tuple[float, float]
    time_steps: int
    source: str


def counted(result: Mapping[str, NDArray[Any]]) -> Events:
    """Events from the arrays that run.py writes: `events.*`, `synops.*` and `units.*`, each int64
    `[samples, time steps]`."""

    def means(prefix: str) -> dict[str, float]:
        return {k.removeprefix(prefix): float(v.sum(axis=1).mean()) for k, v in result.items() if k.startswith(prefix)}

    ticks = max((v.shape[1] for k, v in result.items() if k.startswith("units.")), default=0)
    return Events(
        samples=len(result["steps"]),
        ticks=ticks,
        streams=means("events."),
        synops=means("synops."),
        moved=means("units."),
        per_tick={
            k.removeprefix("events."): tuple(float(x) for x in v.mean(axis=0))
            for k, v in result.items()
            if k.startswith("events.") and k.endswith("_step")
        },
        settled_after=float(result["steps"].mean()),
    )


def estimate(placement: Mapping[str, Any], events: Events) -> Estimate | None:
    """Cost of one sample on the placement (`Placement.to_json()`); None where no figures are published.

    Every placed neuron is updated in every time step, as the chip does: "active" where its code moved, else
    "inactive". Events spread evenly over the units of their population.
    """
    if placement["chip"]["name"] != "loihi1" or placement["shortages"]:
        return None
    frames = max(1, round(events.ticks / placement["steps"]))
    steps = events.ticks * placement["depth"] + 2 * frames
    units = sum(core["last"] - core["first"] for core in placement["cores"])
    active = sum(events.moved.values())
    routes = {r["stream"]: r for r in placement["routes"]}
    sent = {name: (n, routes[name]) for name, n in events.streams.items() if name in routes}
    energy = {
        "synaptic operations": sum(events.synops.values()) * FIGURES["synaptic_op_pj"],
        "neuron updates": active * FIGURES["neuron_active_pj"]
        + (units * steps - active) * FIGURES["neuron_inactive_pj"],
        "spikes": sum(n * r["copies"] for n, r in sent.values()) * FIGURES["spike_within_tile_pj"],
        "tile hops": sum(
            n
            * (
                r["hops_east_west"] * FIGURES["hop_east_west_pj"]
                + r["hops_north_south"] * FIGURES["hop_north_south_pj"]
            )
            for n, r in sent.values()
        ),
    }
    energy = {name: pj / 1000 for name, pj in energy.items()}
    stored: dict[str, int] = {}
    for core in placement["cores"]:
        for name, count in core["synapses"].items():
            stored[name] = stored.get(name, 0) + count
    busiest = max(
        sum(events.synops.get(n, 0.0) * count / stored[n] for n, count in core["synapses"].items() if count)
        for core in placement["cores"]
    )
    most = max(core["last"] - core["first"] for core in placement["cores"])
    low = FIGURES["barrier_min_ns"] + most * FIGURES["neuron_inactive_ns"]
    high = FIGURES["barrier_max_ns"] + most * FIGURES["neuron_active_ns"] + busiest / steps * FIGURES["synaptic_op_ns"]
    return Estimate(energy, sum(energy.values()), (low, high), (low * steps, high * steps), steps, SOURCE)


def report(placements: Mapping[str, Mapping[str, Any]], events: Events) -> dict[str, Any]:
    """Events, and by chip the estimate or why there is none, as JSON values, each labelled with its kind."""
    found: dict[str, Any] = {"events": {"kind": "simulated", **asdict(events)}, "estimates": {}}
    for chip, placement in placements.items():
        cost = estimate(placement, events)
        reason = "the network does not fit" if placement["shortages"] else "no figures per operation are published"
        known = {"none": reason} if cost is None else {**asdict(cost), "notes": placement["notes"]}
        found["estimates"][chip] = {"kind": "estimated", **known}
    return found


def text(given: Mapping[str, Any]) -> str:
    """The report as lines for a terminal."""
    events = given["events"]
    lines = [
        f"{events['samples']} samples, {events['ticks']} ticks each, settled after {events['settled_after']:.1f}",
        "events a sample (simulated):",
    ]
    lines += [f"  {name:<28} {n:12.1f} changes sent" for name, n in events["streams"].items()]
    lines += [f"  {name:<28} {n:12.1f} synaptic operations" for name, n in events["synops"].items()]
    return "\n".join([*lines, *estimates(given["estimates"])]) + "\n"


def estimates(by_chip: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """One line for each chip, notes of its placement behind it."""
    lines = []
    for chip, cost in by_chip.items():
        if "none" in cost:
            lines.append(f"energy and time on {chip} (estimated): none, {cost['none']}")
            continue
        low, high = (t / 1000 for t in cost["total_ns"])
        lines.append(
            f"a sample, at the costs of an operation of {chip} (estimated): {cost['total_nj']:.1f} nJ without static "
            f"power, {low:.1f} to {high:.1f} us for {cost['time_steps']} time steps; {cost['source']}"
        )
        lines += [f"  note: {note}" for note in cost["notes"]]
    return lines


def summary(given: Mapping[str, Any]) -> list[str]:
    """The report in few lines."""
    events = given["events"]
    sent, met = sum(events["streams"].values()), sum(events["synops"].values())
    head = f"events a sample (simulated): {sent:,.1f} changes sent, {met:,.1f} synaptic operations"
    return [f"{head} over {events['ticks']} ticks", *estimates(given["estimates"])]
