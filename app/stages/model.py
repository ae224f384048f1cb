"""The first stage: a float net, of a file or of a live PyTorch step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from eqcompile.toolchain.data import Inputs
from eqcompile.toolchain.diagnostics import Diagnostic, UsageError
from eqcompile.toolchain.importers.api import import_model
from eqcompile.toolchain.importers.graphs.torch_call import Example, Step
from eqcompile.toolchain.interfaces import Imported
from eqcompile.toolchain.ir import EqNet
from eqcompile.toolchain.options import QuantizeOptions

from ..compile import generate
from ..documents import Inspection
from ..inspection import describe_model
from ..wording import percent
from .display import Display, Picture, Row
from .inference import Inference, relax_floats
from .samples import SampleSource

__all__ = ["Model", "load"]

_DRAWN = 8
"""Generated samples of a picture."""


@dataclass(frozen=True)
class Model(Display):
    """A trained net in float64. `imported`: the net with its family, its settings and what was assumed."""

    imported: Imported

    @property
    def net(self) -> EqNet:
        """The net itself; `print(model.net)` shows its IR."""
        return self.imported.net

    @property
    def family(self) -> str:
        """The class of the network, as in the research code."""
        return self.imported.family

    def inspect(self) -> Inspection:
        """Shapes, settings, weights and what is proved, as JSON values: what `eqcompile inspect` says."""
        return describe_model(self.imported)

    def run(self, x: SampleSource, *, limit: int | None = None, trace: bool = True) -> Inference:
        """Relax samples `[samples, (frame,) *shape]` of real numbers in the float64 reference; the first `limit` of
        them. Without `trace` the states after each tick are not kept.

        Raises ImportFileError with everything that is wrong with the samples.
        """
        return relax_floats(self.imported, x, limit=limit, trace=trace)

    def rows(self) -> Sequence[Row]:
        """Family, shapes, settings, weights, contraction."""
        d = self.inspect()
        shapes = [f"{name} {shape}" for part in ("inputs", "states", "outputs") for name, shape in d[part].items()]
        rows: list[Row] = [("warning", text) for text in d["warnings"]]
        rows += [("net", d["file"]), ("family", d["family"]), ("shapes", ", ".join(shapes)), ("steps", str(d["steps"]))]
        settings = [f"{s['name']} {s['value']}" for s in d["settings"]["given"]]
        settings += [f"{s['name']} {s['value']} (assumed)" for s in d["settings"]["assumed"]]
        rows += [("settings", ", ".join(settings))] if settings else []
        for w in d["weights"]:
            nonzero = f"{percent(w['density']['value'], 1)} nonzero [{w['density']['kind']}]"
            rows.append((f"weight {w['name']}", f"{w['shape']}, {'ternary, ' if w['ternary'] else ''}{nonzero}"))
        lines = d["certificate"]["lines"]
        assert isinstance(lines, list)
        return [*rows, ("contraction", str(lines[0]))]

    def plot(self, x: SampleSource | None = None) -> Picture:
        """How samples settle in the float net: of `x`, or of a few generated ones."""
        samples = x
        if samples is None:
            low, high = QuantizeOptions.input_range
            samples = Inputs(generate(self.net, _DRAWN, low, high, np.random.default_rng(0)))
        return self.run(samples, limit=_DRAWN).plot()


def load(
    model: str | Path | Step,
    *,
    family: str | None = None,
    settings: Mapping[str, object] | None = None,
    config: str | Path | None = None,
    map: Mapping[str, str] | None = None,
    assume: bool = False,
    example: Example | None = None,
    steps: int | None = None,
    readout: Step | None = None,
    outputs: str = "classes",
) -> Model:
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
        table = None if config is None else Path(config)
        return Model(import_model(Path(model), family=family, settings=settings, config=table, map=map, assume=assume))
    from eqcompile.toolchain.importers.graphs.torch_step import import_step

    assert example is not None
    assert steps is not None
    return Model(import_step(model, example=example, steps=steps, readout=readout, outputs=outputs))
