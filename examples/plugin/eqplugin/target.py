"""Target `listing`: the net as one JSON file, its operations in the order in which they are computed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

from eqcompile.toolchain.diagnostics import Diagnostic
from eqcompile.toolchain.interfaces import Emission, Plan, Progress, Refusals, Target, Vectors, quiet
from eqcompile.toolchain.ir import EqNet, IntNet, check, ops

__all__ = ["FILE", "ListingTarget", "listing"]

FILE = "listing.json"
OPERATIONS = (ops.Linear, ops.Add, ops.Sub, ops.Reshape, ops.Rescale, ops.Lookup, ops.DampFixed)


def listing(net: IntNet) -> dict[str, Any]:
    """The net as JSON values."""
    blocks = {"drive": net.drive, "step": net.step, "readout": net.readout}
    return {
        "params": {p.name: p.value.tolist() for p in net.params},
        "states": [asdict(s) for s in net.states],
        **{name: [asdict(op) | {"op": op.mnemonic} for op in block] for name, block in blocks.items()},
        "outputs": {o.name: o.value for o in net.outputs},
        "steps": net.schedule.steps,
        "tolerance": net.schedule.tolerance,
    }


def refusals(net: IntNet) -> list[Diagnostic]:
    """Every reason why a listing cannot hold the net. The rules of the IR come first: a net that breaks one has no
    meaning."""
    faults = list(check(net))
    if not faults:
        faults = [
            Diagnostic("listing-operation", f"{op.mnemonic} has no line in a listing", op.out)
            for op in net.all_ops()
            if not isinstance(op, OPERATIONS)
        ]
        if net.schedule.frames:
            faults.append(Diagnostic("listing-frames", "a listing runs one frame, the net reads several", net.name))
    return faults


@dataclass(frozen=True, kw_only=True)
class ListingTarget(Target):
    """Fields of this dataclass would be options of the command line."""

    name: ClassVar[str] = "listing"
    summary: ClassVar[str] = "the net as a JSON file (example of a plug-in)"
    conformance: ClassVar[tuple[str, ...]] = ("plain", "Looped*sn", "Ternary*", "Toroidal*")

    def missing(self) -> Sequence[str]:
        return ()

    def plan(self, net: IntNet, source: EqNet | None = None) -> ListingPlan | Refusals:
        faults = refusals(net)
        return Refusals(tuple(faults)) if faults else ListingPlan(net)


@dataclass(frozen=True)
class ListingPlan(Plan):
    """Nothing to decide: a listing is the net."""

    def emit(self, folder: Path, vectors: Vectors | None, progress: Progress = quiet) -> Emission:
        content = listing(self.net)
        (folder / FILE).write_text(json.dumps(content, indent=1), encoding="utf-8")
        return Emission({"operations": len(content["drive"]) + len(content["step"]) + len(content["readout"])})
