"""Nets, artifacts, inputs, comparison and plug-ins."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
from broken_nets import BROKEN, fix
from emitting import emitted
from float_nets import float_net

from eqcompile.targets.numpy.target import NumpyTarget
from eqcompile.toolchain import golden, registry
from eqcompile.toolchain.artifact import MANIFEST, Artifact, new_folder
from eqcompile.toolchain.compare import compare
from eqcompile.toolchain.data import read_inputs
from eqcompile.toolchain.interfaces import Run, Target
from eqcompile.toolchain.ir import EqNet, Format, Input, Net, Param, ops, verify
from eqcompile.toolchain.ir.serial import load
from eqcompile.toolchain.passes.taps import linear_taps
from eqcompile.toolchain.reference import run_reference

from .case import Case, Provocation, Provocations, tiny

CODES = {"x": np.array([[1, 2], [3, 4]])}


def artifact(case: Case) -> Path:
    """An artifact for NumPy."""
    emitted(NumpyTarget(), tiny(), case.folder / "out")
    return case.folder / "out"


def with_manifest(case: Case, text: str | None = None, **changes: Any) -> Any:
    """An artifact whose manifest says something else."""
    path = artifact(case) / MANIFEST
    document = {**json.loads(path.read_text(encoding="utf-8")), **changes}
    path.write_text(json.dumps(document) if text is None else text, encoding="utf-8")
    return Artifact.open(path.parent)


def changed_file(case: Case, content: str | None) -> Any:
    """An artifact of which a file was changed, or is gone."""
    path = artifact(case) / "README.md"
    path.unlink() if content is None else path.write_text(content)
    return Artifact.open(path.parent)


def compared(states: Any = None, outputs: Any = None, *, golden_states: Any = None) -> Any:
    """A run compared with golden's."""
    right = golden.run(tiny(), CODES, trace=True)
    if golden_states is not None:
        right = replace(right, states=golden_states)
    run = Run(
        outputs=right.outputs if outputs is None else outputs,
        steps=right.steps,
        states=right.states if states is None else states,
    )
    return compare(right, run).require()


def state(change: int = 0, **options: Any) -> dict[str, Any]:
    """The states of the tiny net, with one code changed."""
    codes = np.array(golden.run(tiny(), CODES, trace=True).states["h"], **options)
    codes[1, 0, 1] += change
    return {"h": codes}


def read(case: Case, net: Net | None = None, **arrays: Any) -> Any:
    """A file of samples for a net, by default the float one."""
    return read_inputs(case.arrays("samples.npz", **arrays), net or floating())


def floating(**changes: Any) -> EqNet:
    """A float net of two units, `h <- h + x`."""
    net = float_net((ops.Add(out="y", a="h", b="x"),), {}, shape=(2,))
    return replace(net, **changes)


def classes() -> EqNet:
    """The same, with two classes."""
    net = floating()
    return replace(net, outputs=(replace(net.outputs[0], kind="classes"),))


def two_inputs() -> EqNet:
    """A float net with two inputs."""
    net = floating()
    step = (ops.Add(out="s", a="x", b="z"), ops.Add(out="y", a="h", b="s"))
    return replace(net, inputs=(net.inputs[0], replace(net.inputs[0], name="z")), step=step)


def indexed() -> Net:
    """A net that reads tokens."""
    net = floating()
    step = (ops.Embedding(out="e", x="t", table="E"), ops.Add(out="y", a="h", b="e"))
    return replace(
        net, inputs=(Input("t", (), "index", rows=3),), params=(Param("E", np.zeros((3, 2)), "t"),), step=step
    )


def growing() -> Any:
    """A float net that doubles its state until it is infinite."""
    step = (ops.Mul(out="p", a="x", b="x"), ops.Add(out="y", a="h", b="p"))
    return run_reference(float_net(step, {}, shape=(2,)), {"x": np.full((1, 2), 1e200)})


def narrow(case: Case) -> Any:
    """A net whose bound is wrong, and a verifier that does not see it."""
    net = tiny()
    case.patch.setattr("eqcompile.toolchain.golden.interpreter.verify", lambda net: None)
    return golden.run(replace(net, formats={**net.formats, "y": Format(1, True)}), CODES)


def plugged(case: Case, value: str) -> Any:
    """A target of a stranger."""
    entry = EntryPoint("stranger", value, "eqcompile.targets")
    case.patch.setattr(registry, "_group", lambda group: {"stranger": entry})
    case.patch.syspath_prepend(case.folder)
    return registry.find_class("targets", "stranger", Target)


def broken_plugin(case: Case) -> Any:
    case.file("broken_plugin.py", "raise RuntimeError('no licence')\n")
    return plugged(case, "broken_plugin:T")


def unwritable(case: Case) -> Any:
    with new_folder(case.file("file") / "out", force=False):
        pass


def foreign(case: Case) -> Any:
    case.file("out/mine.txt")
    with new_folder(case.folder / "out", force=True):
        pass


def existing(case: Case) -> Any:
    with new_folder(artifact(case), force=False):
        pass


def too_large(case: Case) -> Any:
    case.patch.setattr("eqcompile.toolchain.ir.serial.MAX_BYTES", 8)
    return case.net()


def too_large_file(case: Case) -> Any:
    path = case.net()
    case.patch.setattr("eqcompile.toolchain.ir.serial.MAX_BYTES", 8 - (1 << 20))
    return load(path)


def verified(net: Net) -> Provocation:
    return lambda case: verify(fix(net))


VERIFIER: Provocations = {code: verified(net) for code, net, _ in reversed(BROKEN)}

TOOLCHAIN: Provocations = {
    "artifact-changed": lambda case: changed_file(case, "other"),
    "artifact-file-missing": lambda case: changed_file(case, None),
    "compare-diverges": lambda case: compared(state(1)),
    "compare-dtype": lambda case: compared(state(dtype=np.float64)),
    "compare-extra-state": lambda case: compared({**state(), "g": np.zeros(1, np.int64)}),
    "compare-missing-output": lambda case: compared(outputs={}),
    "compare-nothing": lambda case: compared({}, golden_states={}),
    "compare-shape": lambda case: compared({"h": state()["h"][:2]}),
    "diverged": lambda case: growing(),
    "file-format": lambda case: read_inputs(case.file("x.npz", "text"), floating()),
    "golden-format": narrow,
    "input-batch": lambda case: read(case, two_inputs(), x=np.zeros((2, 2)), z=np.zeros((3, 2))),
    "input-dtype": lambda case: read(case, indexed(), t=np.zeros(2)),
    "input-empty": lambda case: read(case, x=np.zeros((0, 2))),
    "input-missing": lambda case: read(case, y=np.zeros((2, 2))),
    "input-not-finite": lambda case: read(case, x=np.full((2, 2), np.nan)),
    "input-range": lambda case: read(case, indexed(), t=np.array([1, 3])),
    "input-shape": lambda case: read(case, x=np.zeros((2, 3))),
    "input-unknown": lambda case: golden.run(tiny(), {**CODES, "z": CODES["x"]}),
    "labels-range": lambda case: read(case, classes(), x=np.zeros((2, 2)), labels=np.array([0, 2])),
    "labels-shape": lambda case: read(case, classes(), x=np.zeros((2, 2)), labels=np.array([0])),
    "labels-type": lambda case: read(case, classes(), x=np.zeros((2, 2)), labels=np.array([0.0, 1.0])),
    "limit": lambda case: read_inputs(case.arrays("x.npz", x=np.zeros((2, 2))), floating(), limit=0),
    "manifest-damaged": lambda case: with_manifest(case, files={"../x": "0"}),
    "manifest-version": lambda case: with_manifest(case, manifest_version=99),
    "net-file": lambda case: load(case.file("net.onnx", "text")),
    "net-file-size": too_large_file,
    "not-an-artifact": lambda case: Artifact.open(case.folder),
    "not-linear": lambda case: linear_taps(tiny(), tiny().step[1]),
    "output-exists": existing,
    "output-foreign": foreign,
    "output-not-writable": unwritable,
    "output-too-large": too_large,
    "outputs-shape": lambda case: read(case, classes(), x=np.zeros((2, 2)), logits=np.zeros((2, 7))),
    "outputs-type": lambda case: read(case, classes(), x=np.zeros((2, 2)), logits=np.full((2, 2), np.nan)),
    "plugin-broken": broken_plugin,
    "plugin-type": lambda case: plugged(case, "pathlib:Path"),
    "unknown-target": lambda case: registry.target_class("rlt"),
}
