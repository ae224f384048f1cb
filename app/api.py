"""The Python interface, as `import eqcompile` gives it: a function a stage, each of which returns a frozen value.

import eqcompile as eq

model = eq.load("model.pt")
lowered = eq.quantize(model, calibration={"x": x_train}, weights="int4")
codes = eq.encode(lowered, {"x": x_test})
run = eq.golden(lowered, codes)
artifact = eq.open("out")
eq.compare(run, eq.run(artifact, codes)).require()
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eqcompile.quantization.lower import lower
from eqcompile.sim.campaign.environment.summary import RateDocument, load_orbit, summary
from eqcompile.toolchain import data, registry
from eqcompile.toolchain.arrays import Array
from eqcompile.toolchain.artifact import Artifact
from eqcompile.toolchain.certificate import Certificate, certify
from eqcompile.toolchain.compare import compare
from eqcompile.toolchain.diagnostics import Diagnostic, UsageError
from eqcompile.toolchain.golden import run as run_golden
from eqcompile.toolchain.importers.api import import_model
from eqcompile.toolchain.importers.graphs.torch_call import Example, Step
from eqcompile.toolchain.interfaces import Imported, Lowered, Run, Target
from eqcompile.toolchain.ir import EqNet, IntNet
from eqcompile.toolchain.options import QuantizeOptions

from .compile import DEFAULT_TIMEOUT_S, CompileRequest, CompileResult, compile_model, simulators_for
from .verification import first_able

__all__ = [
    "Artifact",
    "Certificate",
    "CompileRequest",
    "CompileResult",
    "certify",
    "compare",
    "compile_model",
    "encode",
    "golden",
    "load",
    "open",
    "quantize",
    "run",
    "target",
    "upset_rates",
]

Codes = Mapping[str, NDArray[np.int64]]


def load(
    model: str | Path | Step,
    *,
    family: str | None = None,
    settings: Mapping[str, object] | None = None,
    config: Path | None = None,
    map: Mapping[str, str] | None = None,
    assume: bool = False,
    example: Example | None = None,
    steps: int | None = None,
    readout: Step | None = None,
    outputs: str = "classes",
) -> Imported:
    """A float net: of a checkpoint or graph in a file, or of a live PyTorch step.

    model = eq.load("model.pt", settings={"steps": 30}, map={"fc_rec": "W_rec"})
    model = eq.load(step, example=(h, x), steps=30, readout=head)

    Args:
        model: a file, or a step `(h, x) -> h_next`: a `torch.nn.Module` or a function.
        family, settings, config, map, assume: of a file; see `import_model`.
        example, steps, readout, outputs: of a step, whose example and number of steps must be given; see `import_step`.
            Float tensors or arrays `[samples, *shape]`.

    Raises:
        UsageError: arguments of a file with a step, or the other way round. Else as `import_model` and `import_step`.
    """
    of_file = {"family": family, "settings": settings, "config": config, "map": map, "assume": assume or None}
    of_step = {"example": example, "steps": steps, "readout": readout}
    live = not isinstance(model, (str, Path))
    wrong = [name for name, value in (of_file if live else of_step).items() if value is not None]
    lacking = [name for name in ("example", "steps") if of_step[name] is None] if live else []
    if wrong or lacking:
        kinds = ("a step", "a file") if live else ("a file", "a step")
        what = [f"{', '.join(lacking)} must be given with {kinds[0]}"] if lacking else []
        what += [f"{', '.join(wrong)} belongs to {kinds[1]}, the model is {kinds[0]}"] if wrong else []
        hint = "eq.load(step, example=(h, x), steps=30), or eq.load('model.pt', settings={'steps': 30})"
        raise UsageError(Diagnostic("usage", "; ".join(what), "eq.load", hint))
    if isinstance(model, (str, Path)):
        return import_model(Path(model), family=family, settings=settings, config=config, map=map, assume=assume)
    from eqcompile.toolchain.importers.graphs.torch_step import import_step

    assert example is not None
    assert steps is not None
    return import_step(model, example=example, steps=steps, readout=readout, outputs=outputs)


def quantize(model: Imported | EqNet, *, calibration: Mapping[str, Array] | None = None, **options: Any) -> Lowered:
    """The integer net of a float net.

    Args:
        model: what `load` returns, or a float net.
        calibration: real inputs `[samples, (frame,) *shape]` by name, from which ranges are taken; without them
            `input_range` holds.
        options: the fields of `QuantizeOptions`.

    Raises:
        UsageError: an option that there is not, or out of its range. UnsupportedError: an operation without an integer
            form, each named.
    """
    net = model.net if isinstance(model, Imported) else model
    return lower(net, QuantizeOptions(**options), calibration=calibration)


def encode(net: Lowered | IntNet, inputs: Mapping[str, Array]) -> dict[str, NDArray[np.int64]]:
    """Input codes of real inputs `[samples, (frame,) *shape]`, by name; entries out of range saturate."""
    codes, _ = data.encode(net.net if isinstance(net, Lowered) else net, inputs)
    return codes


def golden(net: Lowered | IntNet, codes: Codes, *, trace: bool = True) -> Run:
    """Relax an integer net in the golden interpreter, the definition of right; see `Run` for shapes."""
    return run_golden(net.net if isinstance(net, Lowered) else net, codes, trace=trace)


def target(name: str, **options: Any) -> Target:
    """The target `name` with its options, for a `CompileRequest`.

    Raises:
        UsageError: no such target, naming the nearest. MissingToolError, PluginError: it cannot be loaded.
    """
    return registry.target_class(name).of(**options)


def open(folder: str | Path) -> Artifact:
    """The artifact in a folder, the hash of each of its files checked; ArtifactError with all faults."""
    return Artifact.open(Path(folder))


def run(
    artifact: Artifact,
    codes: Codes,
    *,
    simulator: str | None = None,
    trace: bool = True,
    timeout_s: float = DEFAULT_TIMEOUT_S,
) -> Run:
    """Run input codes `[batch, (frame,) *shape]` through an artifact in one of its target's simulators, by default the
    first that can hold it.

    Raises:
        UsageError: no such simulator, or none that can hold the artifact. MissingToolError: its tool is absent.
            SimulatorError: it died or ran for longer than `timeout_s` seconds.
    """
    chosen = simulators_for(artifact.manifest.target, None if simulator is None else [simulator])
    return chosen[first_able(artifact, chosen)]().run(artifact, codes, trace=trace, timeout_s=timeout_s)


def upset_rates(file: str | Path, *, mission_s: float | None = None, devices: int = 1) -> RateDocument:
    """Upset rates of an orbit by kind of memory cell, as `eqfault rate` tells them (docs/how-to/rate-from-an-orbit.md).

    Args:
        file: a TOML file with spectra and cross-sections.
        mission_s: length of a mission in seconds, for the upsets expected in it.
        devices: devices in the mission.

    Raises:
        UsageError: the file cannot be read. ImportFileError: it or a spectrum is not as it must be, with every fault.
    """
    return summary(load_orbit(Path(file)), mission_s=mission_s, devices=devices)
