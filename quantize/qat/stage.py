"""The pipeline's `tune`: what is missing is said before anything heavy is imported."""

from __future__ import annotations

import math
from importlib.util import find_spec

from eqcompile.toolchain.interfaces import Imported, StageProgress, Tuned, TuneOptions

from ...toolchain.data import Inputs
from ...toolchain.diagnostics import Diagnostic, MissingToolError, UsageError
from ..options import check_options

__all__ = ["tune"]

_PACKAGES = ("torch", "brevitas")


def tune(
    imported: Imported,
    samples: Inputs,
    options: TuneOptions,
    *,
    test: Inputs | None = None,
    progress: StageProgress | None = None,
) -> Tuned:
    """Fine-tune an imported checkpoint on labelled samples, for the integers of `options`.

    `test` is only measured, at the end. Raises MissingToolError (PyTorch, Brevitas), UsageError (options, data) or
    UnsupportedError (a net that has no integer form or that cannot be trained or written back).
    """
    missing = [name for name in _PACKAGES if find_spec(name) is None]
    if missing:
        what = f"training needs {' and '.join(missing)}"
        raise MissingToolError(Diagnostic("missing-tool", what, "eqtune", "pip install 'eqcompile[qat]'"))
    check_options(options.quantize)
    _check(options)
    from .checkpoint import Checkpoint
    from .train import train

    report = progress or (lambda stage, done, total: None)
    return train(Checkpoint(imported), samples, options, test=test, progress=report)


def _check(options: TuneOptions) -> None:
    faults = []
    for name, count in (
        ("epochs", options.epochs),
        ("batch", options.batch),
        ("ticks", 1 if options.ticks is None else options.ticks),
    ):
        if count < 1:
            faults.append(Diagnostic("option-tune", f"{name} is {count}, must be at least 1"))
    if not (math.isfinite(options.lr) and options.lr > 0.0):
        faults.append(Diagnostic("option-tune", f"lr is {options.lr}, must be a positive number"))
    for name, share, below in (("hold_out", options.hold_out, 1.0), ("distill", options.distill, math.inf)):
        if not (0.0 <= share < below and share <= 1.0):
            least = "0 to below 1" if below == 1.0 else "0 to 1"
            faults.append(Diagnostic("option-tune", f"{name} is {share}, must be {least}"))
    if not (math.isfinite(options.noise) and options.noise >= 0.0):
        faults.append(Diagnostic("option-tune", f"noise is {options.noise}, must be a number of at least 0"))
    if faults:
        raise UsageError(faults)
