"""The Python interface, as `import eqcompile` gives it: a function a stage, each of which returns a frozen object.

import eqcompile as eq

net = eq.load("model.pt")
q = eq.quantize(net, calibrate="train.npz", weights="int4")
art = eq.compile(q, target="rtl", out="core", inputs="test.npz")
eq.compare(eq.golden(q, "test.npz"), art.run("test.npz")).require()

Each object shows itself: as text (`print`), in a notebook (a table and a picture), and as a picture (`plot()`).
"""

from __future__ import annotations

from pathlib import Path

from eqcompile.sim.campaign.environment.summary import RateDocument, load_orbit, summary
from eqcompile.toolchain.diagnostics import EqcompileError

from .stages.build import Build, VerifiedBuild, compile, open, target
from .stages.campaign import Campaign, Replay, campaign, open_campaign, plan_campaign
from .stages.certification import Certification, certify
from .stages.display import Display, Picture
from .stages.inference import Difference, Inference, compare
from .stages.model import Model, load
from .stages.quantization import Quantization, quantize
from .stages.samples import SampleSource

__all__ = [
    "Build",
    "Campaign",
    "Certification",
    "Difference",
    "Display",
    "EqcompileError",
    "Inference",
    "Model",
    "Picture",
    "Quantization",
    "Replay",
    "VerifiedBuild",
    "campaign",
    "certify",
    "compare",
    "compile",
    "golden",
    "load",
    "open",
    "open_campaign",
    "plan_campaign",
    "quantize",
    "target",
    "upset_rates",
]


def golden(net: Quantization | Build, x: SampleSource, *, limit: int | None = None, trace: bool = True) -> Inference:
    """Relax samples `[samples, (frame,) *shape]` of real numbers, or a file of them, in the golden interpreter, the
    definition of right; the first `limit` of them. Without `trace` the states after each tick are not kept.

    Raises ImportFileError with everything that is wrong with the samples.
    """
    if isinstance(net, Build):
        return net.run(x, simulator="golden", limit=limit, trace=trace)
    return net.run(x, limit=limit, trace=trace)


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
