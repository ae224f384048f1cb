"""The pipeline's `tune`: what is missing is said before anything heavy is imported."""

from __future__ import annotations

from importlib.util import find_spec

from eqcompile.toolchain.interfaces import Imported, StageProgress, Tuned
from eqcompile.toolchain.options import TuneOptions, option_faults

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
    faults = option_faults(options)
    if faults:
        raise UsageError(faults)
    from .checkpoint import Checkpoint
    from .train import train

    report = progress or (lambda stage, done, total: None)
    return train(Checkpoint(imported), samples, options, test=test, progress=report)
