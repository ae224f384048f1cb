"""Optional packages: which extra of eqcompile installs one, and what is installed."""

from __future__ import annotations

import platform
from importlib import metadata

from packaging.requirements import Requirement

__all__ = ["DISTRIBUTION", "extras", "install_command", "missing", "no_lava"]

DISTRIBUTION = "eqcompile"
_DISTRIBUTIONS = {"cocotb_tools": "cocotb", "cocotbext": "cocotbext-axi", "lava": "lava-nc", "sklearn": "scikit-learn"}
"""Distributions whose name is not that of the package that is imported."""
_NOT_OFFERED = ("dev", "examples")
_LAVA = "pip install --no-deps --ignore-requires-python lava-nc==0.10.0"


def extras() -> dict[str, tuple[Requirement, ...]]:
    """What each extra of the installed eqcompile requires on this Python, by extra; those for developers left out."""
    requirements = [Requirement(text) for text in metadata.requires(DISTRIBUTION) or ()]
    names = [n for n in metadata.metadata(DISTRIBUTION).get_all("Provides-Extra") or () if n not in _NOT_OFFERED]
    return {
        name: tuple(
            r
            for r in requirements
            if r.marker is not None and r.marker.evaluate({"extra": name}) and not r.marker.evaluate({"extra": ""})
        )
        for name in names
    }


def missing(requirement: Requirement) -> str:
    """What is wrong with the installed version of a requirement; empty if nothing is."""
    try:
        version = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        return requirement.name
    if requirement.specifier.contains(version, prereleases=True):
        return ""
    return f"{requirement.name} {version} (needs {requirement.specifier})"


def install_command(package: str) -> str:
    """How to install an imported package: by the smallest extra that holds it, or else by its own name."""
    top = package.partition(".")[0]
    distribution = _DISTRIBUTIONS.get(top, top)
    if distribution == "lava-nc":
        return f"pip install '{DISTRIBUTION}[loihi]' && {_LAVA}" if extras()["loihi"] else no_lava()
    known = {name: requirements for name, requirements in extras().items()}
    fitting = [n for n, requirements in known.items() if distribution in {r.name for r in requirements}]
    if not fitting:
        return f"pip install {distribution}"
    return f"pip install '{DISTRIBUTION}[{min(fitting, key=lambda name: len(known[name]))}]'"


def no_lava() -> str:
    """Why the extra `loihi` is empty on this Python."""
    return f"Lava needs NumPy 1, which Python {platform.python_version()} cannot have: use Python 3.11 or 3.12"
