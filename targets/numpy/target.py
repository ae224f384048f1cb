"""Target `numpy`: a folder with a kernel that needs NumPy alone. The reference deployment, and a quick engine."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from eqcompile.toolchain.interfaces import Emission, Plan, Progress, Refusals, Target, Vectors, quiet

from ...toolchain.artifact import CoreDescription, write_arrays
from ...toolchain.diagnostics import Diagnostic
from ...toolchain.ir import EqNet, Input, IntNet, check
from ...toolchain.passes import MAX_WORD, label_keys, narrowest, output_keys, wide_tables
from .. import inputs as inputs_module
from .kernel import kernel_source, run_arguments
from .templates import fill

__all__ = ["NumpyTarget"]


@dataclass(frozen=True, kw_only=True)
class NumpyTarget(Target):
    """Takes every valid IntNet whose inner products fit a 64-bit word; `kernel.py` is generated, readable code."""

    name: ClassVar[str] = "numpy"
    summary: ClassVar[str] = "a standalone Python kernel that needs NumPy alone"
    conformance: ClassVar[tuple[str, ...]] = ("*",)

    def missing(self) -> Sequence[str]:
        return ()

    def plan(self, net: IntNet, source: EqNet | None = None) -> NumpyPlan | Refusals:
        faults = check(net) or _words(net)
        return Refusals(tuple(faults)) if faults else NumpyPlan(net)


@dataclass(frozen=True)
class NumpyPlan(Plan):
    """Every sum is computed anew in each tick."""

    @property
    def core(self) -> CoreDescription:
        return CoreDescription()

    def emit(self, folder: Path, vectors: Vectors | None, progress: Progress = quiet) -> Emission:
        net = self.net
        (folder / "kernel.py").write_text(kernel_source(net), encoding="utf-8")
        write_arrays(folder / "weights.npz", ((p.name, narrowest(p.value)) for p in net.params))
        title = json.dumps(net.name)
        (folder / "run.py").write_text(fill("run.py.tmpl", title=title), encoding="utf-8")
        shutil.copyfile(inputs_module.__file__, folder / "inputs.py")
        (folder / "README.md").write_text(_readme(net), encoding="utf-8")
        return Emission({"needs": ["numpy"]})


def _words(net: IntNet) -> list[Diagnostic]:
    return [
        Diagnostic(
            "numpy-width",
            f"{op.mnemonic} {op.out} can reach {reach} inside, the kernel holds {MAX_WORD}",
            op.out,
            "choose a smaller shift or a shorter table",
        )
        for op, reach in wide_tables(net)
    ]


def _readme(net: IntNet) -> str:
    labels = label_keys(net)
    kinds = {"classes": "logits", "values": "values"}
    keys = output_keys(net)
    outputs = [f"- `{keys[o.name]}`: {kinds[o.kind]}, one code is {o.scale!r}" for o in net.outputs]
    outputs += [f"- `{key}`: argmax of `{keys[name]}`, ties to the lowest index" for name, key in labels.items()]
    outputs.append("- `steps`: ticks made until the sample settled")
    outputs += [f"- `state.{s.name}`: with `--trace`, its codes after every tick" for s in net.states]
    return fill(
        "README.md.tmpl",
        title=net.name,
        run_arguments=run_arguments(net),
        lead="a batch and a frame axis" if net.schedule.frames else "a batch axis",
        input_rows="\n".join(_input_row(i) for i in net.inputs),
        output_rows="\n".join(outputs),
        digest=net.digest,
    )


def _input_row(i: Input) -> str:
    if i.encoding is None:
        return f"- `{i.name}` {list(i.shape)}: indices below {i.rows}"
    f, scale = i.encoding.format, i.encoding.scale
    return (
        f"- `{i.name}` {list(i.shape)}: real values, encoded as `clip(rint(x / {scale!r}), {f.lo}, {f.hi})`; "
        f"or those codes under `codes.{i.name}`"
    )
