"""From a checkpoint to a verified artifact: the functions behind `eqcompile`, without any printing.

result = compile_model(CompileRequest(model=Path("m.pt"), target=NumpyTarget(), output=Path("out")))
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from eqcompile.quantization.lower import lower
from eqcompile.toolchain import data
from eqcompile.toolchain.agreement import Agreement, agree
from eqcompile.toolchain.arrays import Numbers
from eqcompile.toolchain.artifact import Artifact, Manifest, Source, Verification, demand_replaceable, new_folder, seal
from eqcompile.toolchain.bench import bench_vectors
from eqcompile.toolchain.diagnostics import Diagnostic, UnsupportedError, UsageError
from eqcompile.toolchain.golden import run as run_golden
from eqcompile.toolchain.importers.api import import_model
from eqcompile.toolchain.interfaces import (
    FloatRun,
    Imported,
    Lowered,
    QuantizeOptions,
    Run,
    StageProgress,
    Target,
)
from eqcompile.toolchain.ir import EqNet, IntNet, verify
from eqcompile.toolchain.reference import run_reference
from eqcompile.toolchain.typed_json import JsonObject

from .accuracy import Judgement, judge
from .clocks import MAX_INPUTS, InputCodes, bench_inputs, count_clocks
from .contraction import Contraction, contraction_of
from .emission import describe
from .foresight import foreseen_faults
from .options import ForceOption, ModelOptions, TimeoutOption, VerifyOptions
from .settling import still_moving
from .stages.samples import MEMORY
from .verification import simulators_for, verify_artifact

__all__ = [
    "DEFAULT_TIMEOUT_S",
    "CompileRequest",
    "CompileResult",
    "Samples",
    "Verification",
    "compile_model",
]

DEFAULT_TIMEOUT_S = TimeoutOption.timeout_s
MAX_JUDGED = 1000
"""Samples of the user's inputs on which accuracy and the cost of a contraction are counted."""
_GENERATED_FRAMES = 4
_GENERATOR_SEED = 0


@dataclass(frozen=True, kw_only=True)
class CompileRequest(ModelOptions, VerifyOptions, ForceOption):
    """What to compile and how. `model`: a file, or a net that was imported. `lowered`: its integers, where `quantize`
    and `calibration` made them already. `memory`: samples in place of those of the file `inputs`."""

    model: Path | Imported
    target: Target
    output: Path
    quantize: QuantizeOptions = field(default_factory=QuantizeOptions)
    calibration: Path | data.Inputs | None = None
    lowered: Lowered | None = None
    memory: data.Inputs | None = None

    @property
    def calibration_name(self) -> str | None:
        """What the ranges were taken from; None without calibration."""
        if self.calibration is None:
            return None
        return self.calibration.name if isinstance(self.calibration, Path) else MEMORY


@dataclass(frozen=True)
class Samples:
    """Inputs that were run: real values, codes, how many input values saturated, and where they come from."""

    real: data.Inputs
    codes: Mapping[str, NDArray[np.int64]]
    saturated: int
    source: str
    generated: bool

    @property
    def count(self) -> int:
        return len(next(iter(self.codes.values())))


@dataclass(frozen=True)
class CompileResult:
    """Everything that a report says."""

    request: CompileRequest
    imported: Imported
    lowered: Lowered
    samples: Samples
    golden: Run
    reference: FloatRun
    agreement: Agreement
    verifications: tuple[Verification, ...]
    manifest: Manifest
    contraction: Contraction
    judgement: Judgement

    @property
    def net(self) -> IntNet:
        return self.lowered.net

    @property
    def moving(self) -> NDArray[np.bool_]:
        """Which samples `[samples]` spent the budget of steps and still moved by more than the tolerance in the last
        one."""
        schedule = self.net.schedule
        return still_moving(self.golden, tolerance=schedule.tolerance, budget=schedule.steps)


def compile_model(request: CompileRequest, *, progress: StageProgress | None = None) -> CompileResult:
    """Import, quantize, emit and verify; the artifact folder appears only if everything held.

    A simulator whose tool is absent is recorded as `missing` and does not stop the compilation. Raises
    EqcompileErrors: see `diagnostics`; SimulatorError on the first divergence from golden.
    """
    report = progress or (lambda stage, done, total: None)
    demand_replaceable(request.output, force=request.force)
    simulators = simulators_for(request.target.name, request.simulators) if request.verify else {}
    imported = _imported(request)
    calibration = request.calibration
    if isinstance(calibration, Path):
        calibration = data.read_inputs(calibration, imported.net)
    users = UserInputs.of(request, imported.net, calibration)
    real, source = users.first(request.samples) if users else _generated(request, imported.net)
    faults = foreseen_faults(request.target, imported.net, request.quantize, calibration)
    if faults:
        raise UnsupportedError(list(faults))
    with new_folder(request.output, force=request.force) as folder:
        report("quantize", 0, 1)
        lowered = request.lowered or lower(
            imported.net,
            request.quantize,
            calibration=calibration,
            progress=lambda done, total: report("choose widths", done, total),
        )
        net = lowered.net
        verify(net)
        report("quantize", 1, 1)
        plan = request.target.require_plan(net, imported.net)
        codes, saturated = data.encode(net, real)
        samples = Samples(real, codes, saturated, source, generated=users is None)
        report("golden", 0, 1)
        golden: Run = run_golden(net, codes, trace=True)
        report("golden", 1, 1)
        report("reference", 0, 1)
        reference = run_reference(imported.net, real, trace=True)
        report("reference", 1, 1)
        vectors = bench_vectors(plan)
        stage = plan.stage
        report(stage, 0, plan.emission_parts)
        emission = plan.emit(folder, vectors, lambda done, total: report(stage, done, total))
        report(stage, plan.emission_parts, plan.emission_parts)
        judged, judged_source = users.first(MAX_JUDGED) if users else (real, source)
        contraction = contraction_of(
            imported.net, lowered, request.quantize, calibration=calibration, real=judged, source=judged_source
        )
        judgement = judge(imported.net, net, judged, judged_source)
        emitted = Artifact(folder, net, describe(plan, request.target, emission))
        checks = verify_artifact(
            emitted,
            codes,
            golden,
            simulators,
            named=request.simulators is not None,
            timeout_s=request.timeout_s,
            progress=report,
        )
        clocks = None
        if plan.counts_clocks:
            inputs = InputCodes.of(net, *users.first(MAX_INPUTS)) if users else bench_inputs(emitted)
            clocks = count_clocks(emitted, inputs, timeout_s=request.timeout_s, progress=report)
        finished = plan.finish(emitted, vectors, clocks, report)
        manifest = replace(
            describe(plan, request.target, emission, finished),
            source=_provenance(request, imported),
            contraction=cast("JsonObject", contraction.to_json()),
            verification=checks,
        )
        manifest = seal(folder, net, manifest).manifest
    return CompileResult(
        request=request,
        imported=imported,
        lowered=lowered,
        samples=samples,
        golden=golden,
        reference=reference,
        agreement=agree(net, golden, reference),
        verifications=checks,
        manifest=manifest,
        contraction=contraction,
        judgement=judgement,
    )


def _imported(request: CompileRequest) -> Imported:
    """The float net of a request. Raises UsageError where a net that was loaded comes with options of a file."""
    if isinstance(request.model, Path):
        return import_model(
            request.model,
            family=request.family,
            settings=request.settings,
            config=request.config,
            map=request.map,
            assume=request.assume,
        )
    if request.family or request.settings or request.config or request.map:
        what = "family, settings, config and map belong to a file, the model is a net that was loaded"
        raise UsageError(Diagnostic("usage", what, str(request.model.path), "give them to eq.load"))
    return request.model


@dataclass(frozen=True)
class UserInputs:
    """The samples that the user gave, those of `--inputs` before those for calibration."""

    inputs: data.Inputs
    file: str

    @classmethod
    def of(cls, request: CompileRequest, net: EqNet, calibration: data.Inputs | None) -> UserInputs | None:
        """At most `MAX_INPUTS` samples; None if the user gave none. Raises ImportFileError as `read_inputs`."""
        if request.memory is not None:
            return cls(request.memory.first(MAX_INPUTS), MEMORY)
        if request.inputs is not None:
            return cls(data.read_inputs(request.inputs, net, limit=MAX_INPUTS), request.inputs.name)
        if request.calibration_name is not None and calibration is not None:
            return cls(calibration.first(MAX_INPUTS), request.calibration_name)
        return None

    def first(self, count: int) -> tuple[data.Inputs, str]:
        """The first `count` of them, and where they come from."""
        inputs = self.inputs.first(count)
        return inputs, f"the first {inputs.count} of {self.file}"


def _generated(request: CompileRequest, net: EqNet) -> tuple[data.Inputs, str]:
    low, high = request.quantize.input_range
    real = generate(net, request.samples, low, high, np.random.default_rng(_GENERATOR_SEED))
    return data.Inputs(real), f"generated, uniform in [{low:g}, {high:g}], seed {_GENERATOR_SEED}"


def generate(net: EqNet, count: int, low: float, high: float, generator: np.random.Generator) -> dict[str, Numbers]:
    """Inputs where none are given: numbers uniform in `[low, high]`, indices uniform below `rows`."""
    lead = (count, _GENERATED_FRAMES) if net.schedule.frames else (count,)
    return {
        i.name: generator.integers(0, i.rows or 1, (*lead, *i.shape))
        if i.kind == "index"
        else generator.uniform(low, high, (*lead, *i.shape))
        for i in net.inputs
    }


def _provenance(request: CompileRequest, imported: Imported) -> Source:
    sha256 = imported.net.digest
    if imported.path.is_file():
        with imported.path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return Source(
        file=imported.path.name,
        sha256=sha256,
        family=imported.family,
        given={**imported.given, **({"map": dict(imported.map)} if imported.map else {})},
        assumed=imported.assumed,
        eqnet_digest=imported.net.digest,
        quantize=request.quantize,
    )
