"""From a trained equilibrium network to hardware, with proof that the hardware computes what the network computes.

The Python interface is that of `eqcompile.app.api`; each name is loaded when it is first used.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .app.api import (
        Build,
        Campaign,
        Certification,
        Difference,
        Display,
        EqcompileError,
        Exhaust,
        Inference,
        Model,
        Picture,
        Quantization,
        Replay,
        Search,
        Synthesis,
        Tuning,
        VerifiedBuild,
        available_targets,
        campaign,
        certify,
        compare,
        compare_builds,
        compile,
        doctor,
        exhaust,
        families,
        fault_models,
        golden,
        inspect,
        load,
        new_family,
        open,
        open_campaign,
        plan_campaign,
        quantize,
        search,
        synthesise,
        target,
        tune,
        upset_rates,
    )

__all__ = [
    "Build",
    "Campaign",
    "Certification",
    "Difference",
    "Display",
    "EqcompileError",
    "Exhaust",
    "Inference",
    "Model",
    "Picture",
    "Quantization",
    "Replay",
    "Search",
    "Synthesis",
    "Tuning",
    "VerifiedBuild",
    "available_targets",
    "campaign",
    "certify",
    "compare",
    "compare_builds",
    "compile",
    "doctor",
    "exhaust",
    "families",
    "fault_models",
    "golden",
    "inspect",
    "load",
    "new_family",
    "open",
    "open_campaign",
    "plan_campaign",
    "quantize",
    "search",
    "synthesise",
    "target",
    "tune",
    "upset_rates",
]


def __getattr__(name: str) -> object:
    if name not in __all__:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    from .app import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
