"""Two builds side by side: what they are made of, and on the same samples labels and the first code that differs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, NotRequired, TypedDict

import numpy as np
from numpy.typing import NDArray

from eqcompile.toolchain import artifact, golden
from eqcompile.toolchain.artifact import Artifact
from eqcompile.toolchain.compare import Divergence, compare
from eqcompile.toolchain.interfaces import Run
from eqcompile.toolchain.ir import IntNet
from eqcompile.toolchain.typed_json import JSON, encode

from .clocks import InputCodes

__all__ = ["BuildComparison", "Fact", "Neighbourhood", "RunComparison", "compare_builds", "plain_name"]

_LEFT_OUT = ("files", "verification", "ir_digest", "summary", "interface")
"""Told otherwise, or as one figure."""
_FOR_PEOPLE = ("lines", "summary")
"""Keys of texts that say again what other fields have."""
_TICKS, _UNITS = 2, 3
"""Ticks and units shown around the first divergence, to each side."""


class Fact(TypedDict):
    """A field of the manifests, or a figure of the folders; None where a build has no such field."""

    name: str
    values: tuple[JSON, JSON]
    same: bool


class Neighbourhood(TypedDict):
    """Codes of both builds around the first divergence: `[tick][unit]` of `state` in `sample`, units in the order of
    the flattened state. None of what lies outside."""

    state: str
    sample: int
    ticks: list[int]
    units: list[int]
    codes: tuple[list[list[int]], list[list[int]]]


class RunComparison(TypedDict):
    """Golden of both builds on the same samples. `difference`: why states cannot be compared, or the first code that
    differs, empty if none does; `settled`: the mean number of steps of each."""

    kind: Literal["simulated"]
    source: str
    samples: int
    labels: NotRequired[int]
    labels_equal: NotRequired[int]
    settled: tuple[float, float]
    difference: str
    neighbourhood: NotRequired[Neighbourhood]


class BuildComparison(TypedDict):
    """Two builds; `same_net`: their integers are the same to the bit. `run`: with samples alone."""

    builds: tuple[str, str]
    tools: dict[str, str]
    same_net: bool
    facts: list[Fact]
    run: NotRequired[RunComparison]


def compare_builds(first: Path, second: Path, inputs: Path | None, *, limit: int | None) -> BuildComparison:
    """What two artifact folders have in common; with `inputs` also how their nets run on these samples, each with codes
    of its own scale.

    Raises ArtifactError for a folder that is none, and what reading the samples for either net raises.
    """
    builds = Artifact.open(first), Artifact.open(second)
    flat = [dict(_facts(build)) for build in builds]
    facts: list[Fact] = []
    for name in dict.fromkeys([*flat[0], *flat[1]]):
        values = flat[0].get(name), flat[1].get(name)
        facts.append({"name": name, "values": values, "same": values[0] == values[1]})
    document: BuildComparison = {
        "builds": (str(first), str(second)),
        "tools": artifact.tool_versions(),
        "same_net": builds[0].net.digest == builds[1].net.digest,
        "facts": facts,
    }
    if inputs is not None:
        document["run"] = _runs((builds[0].net, builds[1].net), inputs, limit)
    return document


def plain_name(name: str) -> str:
    """Words for keys of the manifest; names of the net's own values stay as they are."""
    return name if name.startswith(("parameter ", "state ")) else name.replace("_", " ")


def _facts(build: Artifact) -> Iterator[tuple[str, JSON]]:
    net = build.net
    yield "IR digest", net.digest
    yield "bytes of the folder", sum(path.stat().st_size for path in build.folder.rglob("*") if path.is_file())
    for state in build.manifest.interface.states:
        yield f"state {state.name}", f"{list(state.shape)} {state.format}, frac {state.frac}"
    for param in net.params:
        codes = param.value
        ends = f"codes {codes.min():,} to {codes.max():,}" if codes.size else "no codes"
        text = f"{list(codes.shape)}, {ends}, sum {codes.sum():,}" if codes.ndim else f"{codes.sum():,}"
        yield f"parameter {param.name}", text
    manifest = encode(build.manifest)
    yield from _flat("", {name: value for name, value in manifest.items() if name not in _LEFT_OUT})


def _flat(path: str, value: JSON) -> Iterator[tuple[str, JSON]]:
    """Plain values by their path; lists of objects are left out."""
    if isinstance(value, Mapping):
        for key, part in value.items():
            if key not in _FOR_PEOPLE:
                yield from _flat(f"{path} {key}".strip(), part)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        if not any(isinstance(part, Mapping) for part in value):
            yield path, list(value)
    else:
        yield path, value


def _runs(nets: tuple[IntNet, IntNet], inputs: Path, limit: int | None) -> RunComparison:
    codes = [InputCodes.read(inputs, net, limit) for net in nets]
    first, second = (golden.run(net, read.codes, trace=True) for net, read in zip(nets, codes, strict=True))
    document: RunComparison = {
        "kind": "simulated",
        "source": codes[0].source,
        "samples": len(first.steps),
        "settled": (float(first.steps.mean()), float(second.steps.mean())),
        "difference": "",
    }
    classes = [[o.name for o in net.outputs if o.kind == "classes"] for net in nets]
    if classes[0] == classes[1] and len(classes[0]) == 1:
        labels = [golden.labels(run.outputs[classes[0][0]]) for run in (first, second)]
        document["labels"] = int(labels[0].size)
        document["labels_equal"] = int((labels[0] == labels[1]).sum())
    scales = [{s.name: s.frac for s in net.states} for net in nets]
    if scales[0] != scales[1]:
        document["difference"] = "the states have other names or scales: their codes are not compared"
        return document
    compared = compare(first, second)
    if compared.faults:
        document["difference"] = "; ".join(fault.what for fault in compared.faults)
    elif compared.first is not None:
        document["difference"] = str(compared.first)
        if compared.first.kind == "state":
            document["neighbourhood"] = _around(compared.first, first, second)
    return document


def _around(where: Divergence, first: Run, second: Run) -> Neighbourhood:
    """Codes of both runs in the ticks and units next to a state that differs."""
    assert where.tick is not None
    traces = [run.states[where.name][:, where.sample] for run in (first, second)]
    unit = int(np.ravel_multi_index(where.unit, traces[0].shape[1:]))
    ticks = _window(where.tick, _TICKS, len(traces[0]))
    units = _window(unit, _UNITS, int(np.prod(traces[0].shape[1:])))

    def cut(trace: NDArray[np.int64]) -> list[list[int]]:
        codes: list[list[int]] = trace.reshape(len(trace), -1)[np.ix_(ticks, units)].tolist()
        return codes

    return {
        "state": where.name,
        "sample": where.sample,
        "ticks": ticks,
        "units": units,
        "codes": (cut(traces[0]), cut(traces[1])),
    }


def _window(at: int, reach: int, size: int) -> list[int]:
    return list(range(max(0, at - reach), min(size, at + reach + 1)))
