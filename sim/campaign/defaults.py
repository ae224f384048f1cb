"""Options of a fault model that follow from the hardware, its engine and the inputs, where the user states none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass

from ...toolchain.diagnostics import Diagnostic, UsageError
from ...toolchain.ir import IntNet
from ...toolchain.typed_json import JSON, JsonObject
from ..faults.engine import Engine
from ..faults.model import FaultModel, Samples
from ..faults.sites import KINDS, kinds_of

__all__ = ["Hardware", "filled_clocks", "filled_options"]


@dataclass(frozen=True, kw_only=True)
class Hardware:
    """What a net was compiled to: the target (None: no artifact) and, of an RTL core, the options that describe it."""

    target: str | None = None
    core: JsonObject

    @property
    def name(self) -> str:
        return f"a {self._arch} core" if self.target == "rtl" else f"an artifact of target {self.target}"

    @property
    def stored(self) -> tuple[str, ...]:
        """Kinds of sites whose words it stores: a serial core has a memory of sums and one of weights, other cores have
        registers of states and of the drive, and wire the rest."""
        if self.target != "rtl":
            return KINDS
        return ("state", "accumulator", "drive", "weight") if self._arch == "serial" else ("state", "drive")

    @property
    def increments(self) -> bool:
        """Whether sums are stored and incremented by what changed."""
        return self.target == "loihi" or (self.target == "rtl" and self._arch == "serial")

    @property
    def _arch(self) -> str:
        return str(self.core.get("arch", "serial"))


def filled_options(
    model: type[FaultModel],
    options: JsonObject,
    engine: Engine,
    hardware: Hardware,
) -> tuple[dict[str, JSON], list[str]]:
    """The options of a model with those that follow from engine and hardware, and a sentence for each that does.

    Raises UsageError for a model of hardware on an engine that runs none, and for sites that the engine, or the core
    that it runs, does not have.
    """
    if model.instrument and engine.instrument != model.instrument:
        what = f"model {model.name} upsets hardware of target {model.instrument}, engine {engine.name} runs none"
        raise UsageError(Diagnostic("fault-core", what, "--engine", f"--engine {model.instrument}"))
    defaults = _defaults(model)
    filled, reasons = dict(options), []
    if "sites" in defaults:
        usable = [kind for kind in engine.sites if kind in hardware.stored or not engine.instrument]
        if "sites" in options:
            _demand(kinds_of(str(options["sites"])), usable, engine, hardware)
        else:
            kinds = kinds_of(str(defaults["sites"]))
            usual = [kind for kind in usable if not engine.usual or kind in engine.usual]
            chosen = [kind for kind in kinds if kind in usual and kind in hardware.stored]
            if not chosen:
                _demand(kinds, usable, engine, hardware)
            if tuple(chosen) != kinds:
                filled["sites"] = ",".join(chosen)
                stores = f", {hardware.name} stores {_list(hardware.stored)}" if hardware.stored != KINDS else ""
                rest = ", others where --sites asks for them" if engine.usual else ""
                taken = _list(engine.usual or engine.sites)
                reasons.append(f"sites {filled['sites']}: engine {engine.name} takes {taken}{rest}{stores}")
    if "accumulators" in defaults and "accumulators" not in options and hardware.increments:
        filled["accumulators"] = "event"
        reasons.append(f"accumulators event: {hardware.name} stores its sums and increments them")
    return filled, reasons


def filled_clocks(
    model: type[FaultModel], options: JsonObject, engine: Engine, net: IntNet, inputs: Samples, near: int
) -> tuple[dict[str, JSON], list[str]]:
    """The options with the clocks in which upsets fall, for a model that has them in clocks: those of the longest
    fault-free inference of the inputs, which the engine runs for it."""
    if "clocks" not in _defaults(model) or options.get("clocks") is not None:
        return dict(options), []
    clocks = engine.open(net, inputs, near=near).clocks
    return {**options, "clocks": clocks}, [f"clocks {clocks}: the longest inference of the inputs takes as many"]


def _defaults(model: type[FaultModel]) -> dict[str, JSON]:
    return {f.name: f.default for f in fields(model) if f.default is not MISSING} if is_dataclass(model) else {}


def _demand(kinds: Sequence[str], usable: Sequence[str], engine: Engine, hardware: Hardware) -> None:
    if wrong := [kind for kind in kinds if kind not in usable]:
        of = f" in {hardware.name}" if engine.instrument else ""
        what = f"engine {engine.name}{of} takes no upsets of {_list(wrong)}"
        raise UsageError(Diagnostic("fault-sites", what, "--sites", f"it takes: {_list(usable)}"))


def _list(kinds: Sequence[str]) -> str:
    return ", ".join(kinds)
