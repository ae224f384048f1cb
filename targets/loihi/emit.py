"""The artifact: a folder that runs with Lava and NumPy alone."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eqcompile.toolchain.artifact import write_arrays, write_json
from eqcompile.toolchain.interfaces import Emission
from eqcompile.toolchain.ir import IntNet
from eqcompile.toolchain.passes import output_keys
from eqcompile.toolchain.typed_json import JSON, JsonObject

from .. import inputs
from .chips import ChipName
from .code import population_source, template
from .mapping import Placement
from .partition import Partition, Population
from .report import mapping_line, mapping_text

__all__ = ["write_folder"]


def write_folder(
    net: IntNet, parts: Partition, placements: Mapping[ChipName, Placement], chip: ChipName, folder: Path
) -> Emission:
    """Write everything but net and manifest, weights stored as on `chip`."""
    placement = placements[chip]
    alone = _parts_alone(parts)
    beaten = {group[0] for group in alone} if len(alone) > 1 else set()
    for name in ("run.py", "network.py", "lava_compat.py"):
        _write(folder / name, template(name))
    shutil.copyfile(inputs.__file__, folder / "inputs.py")
    _write(folder / "energy.py", (Path(__file__).parent / "energy.py").read_text(encoding="utf-8"))
    _write(folder / "runtime" / "__init__.py", '"""What all processes of this network share."""\n')
    _write(folder / "runtime" / "arithmetic.py", template("arithmetic.py"))
    _write(folder / "runtime" / "lanes.py", template("lanes.py.tmpl"))
    _write(folder / "processes" / "__init__.py", '"""One leaf package for each kind of process."""\n')
    for p in parts.populations:
        _package(folder, f"pop_{p.name}", population_source(p, parts, beat=p.name in beaten))
    if parts.synapses:
        _package(folder, "synapse", template("synapse.py.tmpl"))
    if beaten:
        _package(folder, "conductor", template("conductor.py.tmpl"))
    _weights(parts, folder)
    described = _description(net, parts, placement, beaten)
    write_json(folder / "network.json", described)
    mapped = {name: p.to_json() for name, p in placements.items()}
    write_json(folder / "mapping.json", {"chip": chip, "placements": mapped})
    _write(folder / "mapping.txt", "\n\n".join(mapping_text(p) for p in placements.values()))
    _write(folder / "README.md", _readme(net, parts, placement))
    details: dict[str, JSON] = {
        "populations": {p.name: p.units for p in parts.populations},
        "synapses": {s.name: {"storage": placement.storage[s.name], "nonzero": s.matrix.count} for s in parts.synapses},
        "depth": parts.depth,
        "cores": {name: len(p.cores) for name, p in placements.items()},
    }
    return Emission(details, tuple(mapping_line(p) for p in placements.values()))


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _package(folder: Path, name: str, source: str) -> None:
    _write(folder / "processes" / name / "__init__.py", "")
    _write(folder / "processes" / name / "process.py", source)


def _params(p: Population, net: IntNet) -> list[str]:
    """Parameters that a population reads itself, in order."""
    names = [n for script in p.scripts.values() for a in script if a.op is not None for n in a.op.reads]
    names += [a.value for script in p.scripts.values() for a in script if a.kind == "send"]
    names += [n for s in p.states for n in (s.init, s.update) if n is not None] + list(p.outputs)
    return [n for n in dict.fromkeys(names) if n in net.param_names]


def _weights(parts: Partition, folder: Path) -> None:
    write_arrays(folder / "weights.npz", _arrays(parts))


def _arrays(parts: Partition) -> Iterator[tuple[str, NDArray[np.signedinteger[Any]]]]:
    """What `weights.npz` holds, each made when it is written."""
    for s in parts.synapses:
        rows = np.arange(s.matrix.shape[0], dtype=np.int32)
        yield f"synapse.{s.name}.row", np.repeat(rows, np.diff(s.matrix.row_start))
        yield f"synapse.{s.name}.column", s.matrix.column
        yield f"synapse.{s.name}.weight", s.matrix.weight.astype(np.int32)
        yield f"synapse.{s.name}.bias", s.bias.astype(np.int32)
    names = dict.fromkeys(name for p in parts.populations for name in _params(p, parts.net))
    for name in names:
        yield f"param.{name}", parts.net.param(name).astype(np.int64 if name in parts.wide else np.int32)


Port = tuple[str, str]
"""A process and the name of one of its ports."""


def _links(parts: Partition) -> list[tuple[Port, list[Port]]]:
    """Who sends to whom."""
    links: list[tuple[Port, list[Port]]] = []
    for p in parts.populations:
        for stream in p.streams:
            to = [(f"syn_{s.name}", "s_in") for s in parts.synapses if s.source == stream]
            to += [(f"pop_{q.name}", f"in_{stream}") for q in parts.populations if stream in q.mirrors]
            links.append(((f"pop_{p.name}", f"out_{stream}"), to))
    for s in parts.synapses:
        if s.targets:
            links.append(((f"syn_{s.name}", "a_out"), [(f"pop_{name}", f"in_{s.name}") for name in s.targets]))
    return links


def _parts_alone(parts: Partition) -> list[list[str]]:
    """Populations by connected part of the network."""
    group = {f"pop_{p.name}": f"pop_{p.name}" for p in parts.populations}
    group |= {f"syn_{s.name}": f"syn_{s.name}" for s in parts.synapses}

    def find(name: str) -> str:
        while group[name] != name:
            name = group[name]
        return name

    for (source, _), sinks in _links(parts):
        for name, _ in sinks:
            group[find(name)] = find(source)
    found: dict[str, list[str]] = {}
    for p in parts.populations:
        found.setdefault(find(f"pop_{p.name}"), []).append(p.name)
    return list(found.values())


def _description(net: IntNet, parts: Partition, placement: Placement, beaten: set[str]) -> JsonObject:
    populations: list[JsonObject] = [
        {
            "name": f"pop_{p.name}",
            "package": f"pop_{p.name}",
            "kind": "population",
            "params": _params(p, parts.net),
            "clamped": [i.name for i in p.clamped],
            "states": [s.name for s in p.states],
        }
        for p in parts.populations
    ]
    synapses: list[JsonObject] = [
        {
            "name": f"syn_{s.name}",
            "package": "synapse",
            "kind": "synapse",
            "storage": placement.storage[s.name],
            "weights": s.name,
            "block": s.source.block,
            "shape": list(s.matrix.shape),
        }
        for s in parts.synapses
    ]
    conductor: list[JsonObject] = [{"name": "conductor", "package": "conductor", "kind": "conductor"}] if beaten else []
    links = _links(parts)
    if beaten:
        links.append((("conductor", "beat_out"), [(f"pop_{n}", "beat_in") for n in sorted(beaten)]))
    types = parts.types
    inputs = []
    for i in net.inputs:
        lo, hi = i.limits
        inputs.append(
            {
                "name": i.name,
                "shape": list(i.shape),
                "kind": i.kind,
                "rows": i.rows,
                "lo": lo,
                "hi": hi,
                "scale": None if i.encoding is None else i.encoding.scale,
            }
        )
    schedule, keys = asdict(net.schedule), output_keys(net)
    return {
        "net": net.name,
        "ir_digest": net.digest,
        "chip": placement.chip.name,
        "inputs": inputs,
        "outputs": [
            {
                "name": keys[o.name],
                "value": p.value,
                "kind": o.kind,
                "scale": o.scale,
                "shape": list(types[p.value].shape),
            }
            for o, p in zip(net.outputs, parts.net.outputs, strict=True)
        ],
        "states": [{"name": s.name, "shape": list(s.shape)} for s in net.states],
        "schedule": {k: schedule[k] for k in ("steps", "frames", "emit")},
        "processes": [*populations, *synapses, *conductor],
        "links": [{"from": source, "to": sinks} for source, sinks in links],
    }


def _readme(net: IntNet, parts: Partition, placement: Placement) -> str:
    notes = "".join(f"- {note}\n" for note in placement.notes)
    frames = "one frame after another, states carried over, " if net.schedule.frames else ""
    return template("README.md.tmpl").format(
        name=net.name,
        family=net.family,
        digest=net.digest,
        chip=placement.chip.name,
        populations=len(parts.populations),
        synapses=len(parts.synapses),
        steps=net.schedule.steps,
        frames=frames,
        input=net.inputs[0].name,
        outputs=", ".join(f"`{key}`" for key in output_keys(net).values()),
        notes=notes or "- none\n",
    )
