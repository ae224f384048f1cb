"""Target `onnx`: a standard ONNX model of the integers, and one of the float net it came from."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar, Literal

from eqcompile.toolchain.interfaces import Emission, Plan, Progress, Refusals, Target, Vectors, quiet
from eqcompile.toolchain.options import option
from eqcompile.toolchain.typed_json import JSON

from ...toolchain.artifact import CoreDescription
from ...toolchain.diagnostics import Diagnostic
from ...toolchain.ir import EqNet, Input, IntNet, check
from ...toolchain.ir.onnx_functions import OPSET
from ...toolchain.ir.onnx_graph import IR_VERSION
from ...toolchain.ir.onnx_write import Model
from ...toolchain.passes import MAX_WORD, label_keys, output_keys, wide_tables
from .. import inputs as inputs_module
from .float_form import float_model
from .graph import STATE, STEPS, InputType, input_names, integer_model
from .templates import fill

__all__ = ["OLDEST_RUNTIME", "OnnxTarget"]

SINGLE_BITS = 22
"""Codes of so many bits come back from `code * scale` in single precision: the error is below half a code."""
OLDEST_RUNTIME = "1.18.0"
"""Of ONNX Runtime: the first that reads this IR version; `benchmarks/oldest_onnxruntime.py` runs artifacts in it."""
FloatForm = Literal["none", "float32", "float64"]


@dataclass(frozen=True, kw_only=True)
class OnnxTarget(Target):
    """Takes every valid IntNet whose inner products fit a 64-bit word."""

    name: ClassVar[str] = "onnx"
    summary: ClassVar[str] = "a standard ONNX model (integers, a Loop that ends on settling), and its float form"
    install: ClassVar[str] = "pip install 'eqcompile[onnx]'"
    conformance: ClassVar[tuple[str, ...]] = ("*",)

    input_type: InputType = option(
        "float32", help="what the model takes: real numbers, encoded inside, or codes (int64)"
    )
    float_form: FloatForm = option("float32", help="precision of float.onnx, the net before quantization")

    def missing(self) -> Sequence[str]:
        return () if find_spec("onnxruntime") else ("onnxruntime",)

    def plan(self, net: IntNet, source: EqNet | None = None) -> OnnxPlan | Refusals:
        faults = [*check(net)] or [*self._options(net), *_words(net)]
        return Refusals(tuple(faults)) if faults else OnnxPlan(net, self, source)

    def _options(self, net: IntNet) -> list[Diagnostic]:
        faults = []
        for i in net.inputs if self.input_type == "float32" else ():
            if i.encoding is not None and i.encoding.format.bits > SINGLE_BITS:
                what = f"codes of {i.name} have {i.encoding.format.bits} bits, single precision tells {SINGLE_BITS}"
                faults.append(Diagnostic("onnx-input-bits", what, i.name, "take --input-type float64 or codes"))
        return faults

    def _readme(self, net: IntNet) -> str:
        labels = label_keys(net)
        kinds = {"classes": "logits", "values": "values"}
        keys, names = output_keys(net), input_names(net)
        outputs = [f"- `{keys[o.name]}`: {kinds[o.kind]}, int64 codes, one code is {o.scale!r}" for o in net.outputs]
        outputs += [f"- `{key}`: argmax of `{keys[name]}`, ties to the lowest index" for name, key in labels.items()]
        outputs.append(f"- `{STEPS}`: ticks made until the sample settled")
        outputs += [f"- `{STATE}{s.name}` (`trace.onnx`): its codes after every tick" for s in net.states]
        wanted = [*labels.values()] or [*keys.values()]
        files = ["| `model.onnx` | the network |", "| `trace.onnx` | the same with every state of every tick |"]
        if self.float_form != "none":
            files.append(f"| `float.onnx` | the net before quantization, in {self.float_form} |")
        return fill(
            "README.md.tmpl",
            title=net.name,
            opset=OPSET,
            ir_version=IR_VERSION,
            runtime=OLDEST_RUNTIME.removesuffix(".0"),
            results=", ".join(n.replace(".", "_") for n in wanted),
            wanted=json.dumps(wanted),
            feeds=", ".join(f'"{names[i.name]}": {i.name}' for i in net.inputs),
            files="\n".join(files),
            lead="a batch and a frame axis" if net.schedule.frames else "a batch axis",
            input_rows="\n".join(self._input_row(i, names[i.name]) for i in net.inputs),
            output_rows="\n".join(outputs),
            float_part=_FLOAT if self.float_form != "none" else "",
            digest=net.digest,
        )

    def _input_row(self, i: Input, name: str) -> str:
        if i.encoding is None:
            return f"- `{name}` {list(i.shape)}, int64: indices below {i.rows}"
        f, scale = i.encoding.format, i.encoding.scale
        rule = f"`clip(rint(x / {scale!r}), {f.lo}, {f.hi})`, half to even"
        if self.input_type == "codes":
            return f"- `{name}` {list(i.shape)}, int64: codes {rule}"
        return f"- `{name}` {list(i.shape)}, {self.input_type}: real values; the model encodes them as {rule}"


@dataclass(frozen=True)
class OnnxPlan(Plan):
    """`source`: the float net of `float.onnx`."""

    target: OnnxTarget
    source: EqNet | None

    @property
    def core(self) -> CoreDescription:
        return CoreDescription()

    def emit(self, folder: Path, vectors: Vectors | None, progress: Progress = quiet) -> Emission:
        net, target = self.net, self.target
        for name, trace in (("model.onnx", False), ("trace.onnx", True)):
            _write(integer_model(net, input_type=target.input_type, trace=trace), folder / name)
        inputs = "\n".join(f"    {i.name!r}: {_codes(i)}," for i in net.inputs)
        title, coded = json.dumps(net.name), target.input_type == "codes"
        run = fill("run.py.tmpl", title=title, inputs=inputs, coded=coded, framed=net.schedule.frames)
        (folder / "run.py").write_text(run, encoding="utf-8")
        shutil.copyfile(inputs_module.__file__, folder / "inputs.py")
        (folder / "README.md").write_text(target._readme(net), encoding="utf-8")
        details: dict[str, JSON] = {"needs": ["numpy", "onnxruntime"]}
        if self.source is not None and target.float_form != "none":
            _write(float_model(self.source, single=target.float_form == "float32"), folder / "float.onnx")
            digest = self.source.digest
            details["float"] = {"file": "float.onnx", "precision": target.float_form, "eqnet_digest": digest}
        return Emission(details)


_FLOAT = """
`float.onnx` takes and gives real values, of the net before quantization (written when a checkpoint is compiled). Its
results are those of the float64 reference up to rounding; `run.py --trace` counts the labels that the integers share.
"""


def _write(model: Model, path: Path) -> None:
    import onnx

    with path.open("wb") as file:
        file.writelines(model.pieces())
    onnx.checker.check_model(str(path), full_check=True)


def _codes(i: Input) -> str:
    return repr((i.shape, *i.limits, None if i.encoding is None else i.encoding.scale))


def _words(net: IntNet) -> Iterable[Diagnostic]:
    for op, reach in wide_tables(net):
        what = f"{op.mnemonic} {op.out} can reach {reach} inside, int64 of ONNX holds {MAX_WORD}"
        yield Diagnostic("onnx-width", what, op.out, "choose a smaller shift or a shorter table")
