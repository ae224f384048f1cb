"""All provocations, by room: the name of the file of golden texts."""

from __future__ import annotations

from .app import APP
from .case import Provocations
from .graphs import GRAPHS
from .importers import IMPORTERS
from .live import LIVE
from .quantization import QUANTIZATION
from .rtl import RTL
from .sim_campaign import CAMPAIGNS
from .sim_faults import FAULTS
from .stages import STAGES
from .targets import TARGETS
from .toolchain import TOOLCHAIN, VERIFIER

__all__ = ["TABLES"]

TABLES: dict[str, Provocations] = {
    "app": APP,
    "app-stages": STAGES,
    "importers": IMPORTERS,
    "importers-graphs": GRAPHS,
    "importers-live": LIVE,
    "quantization": QUANTIZATION,
    "rtl": RTL,
    "sim-campaign": CAMPAIGNS,
    "sim-faults": FAULTS,
    "targets": TARGETS,
    "toolchain": TOOLCHAIN,
    "toolchain-ir": VERIFIER,
}
