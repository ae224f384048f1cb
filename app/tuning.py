"""Training for the integers that a checkpoint will become, and the checkpoint that is written."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, cast

from eqcompile.quantization.lower import lower
from eqcompile.quantization.qat.stage import tune
from eqcompile.toolchain.diagnostics import Diagnostic, SimulatorError
from eqcompile.toolchain.importers.api import import_model
from eqcompile.toolchain.options import QuantizeOptions, TuneOptions

from .files import replacing
from .progress import progress_if
from .report.data import number
from .width_words import width_words

if TYPE_CHECKING:
    from eqcompile.toolchain.arrays import Array
    from eqcompile.toolchain.data import Inputs
    from eqcompile.toolchain.interfaces import Imported, StageProgress, Tuned

    from .documents import TuneDocument
    from .report.schema import Number

__all__ = ["tune_checkpoint"]

_LONG_S = 30.0
"""Training that takes longer is announced."""


def tune_checkpoint(
    imported: Imported,
    samples: Inputs,
    options: TuneOptions,
    output: Path,
    *,
    test: Inputs | None,
    data: str,
    force: bool,
    show: bool,
) -> TuneDocument:
    """Train a net of a checkpoint, and write the checkpoint that lowers to the integers that were measured.

    Args:
        imported: the net as it was read.
        samples: labelled, which are trained on and, but for those held out, calibrate the integers.
        options: of the training and of the integers.
        output: the file of the new checkpoint, replaced with `force`.
        test: samples that are only measured.
        data: what the command line to go on with calls the samples.
        show: whether progress is shown.

    Raises ArtifactError for a file that is there, SimulatorError if the file as written lowers to other integers, and
    what `tune` raises.
    """
    with replacing(output, force=force) as temporary, progress_if(show) as progress:
        start = time.perf_counter()
        tuned = tune(imported, samples, options, test=test, progress=_with_estimate(progress, options.epochs))
        seconds = time.perf_counter() - start
        _write(temporary, tuned.checkpoint)
        _demand_same(temporary, output, tuned, options.quantize, samples)
    return _document(imported, options, tuned, seconds, output, data)


def _with_estimate(progress: StageProgress | None, epochs: int) -> StageProgress:
    """A callback that also says after the first epoch, on standard error, how long all of them will take."""
    start, pending = time.perf_counter(), True

    def report(stage: str, done: int, total: int) -> None:
        nonlocal pending
        if pending and done * epochs >= total:
            pending, seconds = False, time.perf_counter() - start
            if seconds * epochs > _LONG_S:
                sys.stderr.write(
                    f"one epoch took {seconds:.1f} s: {epochs} epochs take about {seconds * epochs / 60:.0f} minutes "
                    "(--epochs sets their number)\n"
                )
        if progress is not None:
            progress(stage, done, total)

    return report


def _write(path: Path, checkpoint: Mapping[str, object]) -> None:
    import torch

    tensors = cast("Mapping[str, Array]", checkpoint["state_dict"])
    state = {key: torch.tensor(array) for key, array in tensors.items()}
    with path.open("wb") as file:
        torch.save({**checkpoint, "state_dict": state}, file)


def _demand_same(path: Path, output: Path, tuned: Tuned, options: QuantizeOptions, samples: Inputs) -> None:
    """The file as written lowers to the net that was measured, or it is not kept."""
    net = lower(import_model(path, assume=False).net, options, calibration=samples).net
    if net.digest != tuned.net.digest:
        what = f"the checkpoint lowers to {net.digest[:12]}, the net that was measured is {tuned.net.digest[:12]}"
        raise SimulatorError(Diagnostic("tune-changed", what, output.name, "please report this with the checkpoint"))


def _document(
    imported: Imported, options: TuneOptions, tuned: Tuned, seconds: float, output: Path, data: str
) -> TuneDocument:
    integers = options.quantize
    return {
        "source": str(imported.path),
        "output": str(output),
        "family": imported.family,
        "weights": integers.weights,
        "widths": dict(integers.widths),
        "state_bits": integers.state_bits,
        "states": dict(integers.states),
        "guard_bits": integers.guard_bits,
        "guards": dict(integers.guards),
        "digest": tuned.net.digest,
        "max_lipschitz": options.max_lipschitz,
        "margin": options.margin,
        "bound": _bound(tuned.bound),
        "others": {
            name: {
                "accuracy": {
                    part: number(share, "measured", "fraction", "golden") for part, share in o.accuracy.items()
                },
                "bound": _bound(o.bound),
            }
            for name, o in tuned.others.items()
        },
        "accuracy": {
            name: {
                "samples": number(tuned.samples[name], "measured", "samples"),
                "float_before": number(found["float"], "measured", "fraction", "float64 reference"),
                "integers_before": number(found["before"], "measured", "fraction", "golden, without training"),
                "integers_after": number(found["after"], "measured", "fraction", "golden"),
            }
            for name, found in tuned.accuracy.items()
        },
        "trained_on": number(tuned.samples["trained"], "measured", "samples"),
        "epoch": number(tuned.epoch, "measured", "epochs", f"chosen of {len(tuned.history)}"),
        "seconds": number(seconds, "measured", "s", "wall-clock time on this machine"),
        "frozen": dict(tuned.frozen),
        "history": list(tuned.history),
        "compile_options": _compile_options(integers, data),
    }


def _bound(value: float) -> Number | None:
    return number(value, "proved", "a step", "certificate of the integers") if math.isfinite(value) else None


def _compile_options(options: QuantizeOptions, data: str) -> str:
    """What `eqcompile` has to be told to make the same integers."""
    words = [f"--weights {options.weights}", *(f"--weights {name}={kind}" for name, kind in options.widths.items())]
    words += [] if options.per_row else ["--per-tensor"]
    words += [f"--state-bits {options.state_bits}", f"--input-bits {options.input_bits}"]
    words += width_words(options.states, options.guard_bits, options.guards)
    return " ".join([*words, f"--calibrate {data}"])
