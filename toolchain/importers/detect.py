"""Which family a file is of: what the user says, what the file says, and what its keys allow. Never a guess."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from .. import registry
from ..diagnostics import Diagnostic, ImportFileError, UsageError
from ..interfaces import Assumption
from .family import Family, Tensors, normalise
from .files.format import LoadedFile

__all__ = ["Fit", "all_families", "detect", "fit", "named", "unprefixed"]

_PREFIXES = ("model.", "net.", "network.", "module.")
"""What a module that holds the network, such as a LightningModule, puts before all its keys."""

_SHOWN = 8
_ROADS = """A class of your own has three roads:
    - export one step as ONNX (inputs x, h; outputs h_next, logits) and compile that file with --set steps=30
    - write it as a NIR graph and compile that file
    - write a family: `eqcompile families --template FILE.py` gives one of nine lines to change"""


def all_families() -> dict[str, Family]:
    """Every registered family that can be loaded, by key."""
    return dict(registry.load_all("families", Family).entries)


@dataclass(frozen=True)
class Fit:
    """How keys differ from a layout: required patterns that match no key, and keys that no pattern matches."""

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]

    @property
    def exact(self) -> bool:
        return not self.missing and not self.unexpected


def fit(family: Family, keys: Iterable[str]) -> Fit:
    """Compare normalised keys with the layout of a family; with the tensors of a file, its spectral norms too."""
    normed = keys.normed if isinstance(keys, Tensors) and not family.spectral_norm else ()
    keys = tuple(keys)
    required = [re.compile(p) for p in family.required]
    allowed = [*required, *(re.compile(p) for p in (*family.optional, *family.unused))]
    missing = tuple(p.pattern for p in required if not any(p.fullmatch(k) for k in keys))
    unexpected = tuple(k for k in keys if not any(p.fullmatch(k) for p in allowed))
    return Fit(missing, (*unexpected, *normed))


def _distinct(families: Iterable[Family]) -> list[Family]:
    """Without those that compute the same as another one of them."""
    families = list(families)
    keys = {f.key for f in families}
    return [f for f in families if f.same_as not in keys]


def detect(
    tensors: Tensors,
    name: str | None = None,
    *,
    stated: str | None = None,
    known: Mapping[str, Family] | None = None,
) -> Family:
    """The family of a file. `name` is the user's `--family`, `stated` what the file says; each is a full key or a
    bare class name, which names the one variant that fits the keys. With neither, the layout must fit one family only.

    Raises UsageError for an unknown or contradictory `name`; ImportFileError where the keys do not fit, or fit
    several families: equal keys and shapes occur in networks that compute different things, so the choice is the
    user's.
    """
    known = all_families() if known is None else known
    if not known:
        hint = "install eqcompile again: families are registered by its entry points"
        raise UsageError(Diagnostic("no-family", "no family is installed", tensors.label, hint))
    family = None
    if stated is not None and (name is None or named(stated, known)):
        family = _choose(stated, tensors, known, from_file=True)
    if name is not None:
        by_name = _choose(name, tensors, known, from_file=False, stated=family)
        if family is not None and by_name.key != family.key:
            what = f"--family says {by_name.key}, the file says that it is {family.key}"
            raise UsageError(Diagnostic("family-contradiction", what, tensors.label, "leave --family out"))
        family = by_name
    if family is None:
        return _by_layout(tensors, known)
    gap = fit(family, tensors)
    if not gap.exact:
        raise ImportFileError(_differences(family, gap, tensors))
    return family


def unprefixed(file: LoadedFile, families: Iterable[Family]) -> LoadedFile:
    """The file without prefixes that all its keys share, where one of `families` fits only then; else as it is.

    A prefix that was removed is an assumption: the file does not say that the rest is a network of its own.
    """
    families, prefix, arrays = list(families), "", dict(file.arrays)
    while not any(fit(f, Tensors(file.label, arrays)).exact for f in families):
        shared = next((p for p in _PREFIXES if all(key.startswith(p) for key in arrays)), None)
        if shared is None:
            return file
        prefix += shared
        arrays = {key.removeprefix(shared): array for key, array in arrays.items()}
    if not prefix:
        return file
    assumed = Assumption("prefix", prefix, "all keys of the file begin with it; it was removed")
    return replace(file, arrays=arrays, assumed=(*file.assumed, assumed))


def named(name: str, known: Mapping[str, Family]) -> list[Family]:
    """Families that a full key or a bare class name may mean."""
    if name in known:
        return [known[name]]
    return [] if "." in name else [f for key, f in known.items() if key.rpartition(".")[2] == name]


def _choose(
    name: str, tensors: Tensors, known: Mapping[str, Family], *, from_file: bool, stated: Family | None = None
) -> Family:
    variants = named(name, known)
    if stated is not None and stated in variants:
        return stated
    if not variants:
        near = difflib.get_close_matches(name, [*known, *(k.rpartition(".")[2] for k in known)], n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        if from_file:
            what = f"the file says that it is a {name[:80]!r}, which is no known family"
            hint += "name the one it computes like with --family (see `eqcompile families`)"
            raise ImportFileError(Diagnostic("unknown-family", what, tensors.label, hint))
        hint += f"known: {', '.join(sorted(known))}"
        raise UsageError(Diagnostic("unknown-family", f"there is no family {name[:80]!r}", "--family", hint))
    fitting = _distinct(f for f in variants if fit(f, tensors).exact)
    if len(fitting) > 1:
        raise ImportFileError(_several(fitting, tensors))
    if fitting or len(variants) == 1:
        return (fitting or variants)[0]
    raise ImportFileError([d for f in variants for d in _differences(f, fit(f, tensors), tensors)])


def _by_layout(tensors: Tensors, known: Mapping[str, Family]) -> Family:
    fits = {key: fit(family, tensors) for key, family in known.items()}
    exact = _distinct(known[key] for key, gap in fits.items() if gap.exact)
    if len(exact) == 1:
        return exact[0]
    if exact:
        raise ImportFileError(_several(exact, tensors))
    nearest = min(fits, key=lambda key: (len(fits[key].missing) + len(fits[key].unexpected), key))
    head = Diagnostic(
        "no-family",
        f"the {len(tensors)} tensors fit none of {len(known)} families; the nearest is {nearest}",
        tensors.label,
        f"what differs from it is listed below; give the whole state_dict of one network. {_ROADS}",
    )
    raise ImportFileError([head, *_differences(known[nearest], fits[nearest], tensors)])


def _several(families: Iterable[Family], tensors: Tensors) -> Diagnostic:
    families = sorted(families, key=lambda f: f.key)
    lines = [f"--family {f.key}  ({f.summary})" for f in families]
    return Diagnostic(
        "family-ambiguous",
        f"these keys fit {len(families)} families, which compute different things from the same tensors, "
        "and the file does not say which it is",
        tensors.label,
        "add the one that was trained:\n    " + "\n    ".join(lines),
    )


def _differences(family: Family, gap: Fit, tensors: Tensors) -> list[Diagnostic]:
    """One diagnostic for each missing pattern and unexpected key, as many as can be read."""
    faults = []
    for pattern in gap.missing[:_SHOWN]:
        near = difflib.get_close_matches(_readable(pattern), gap.unexpected, n=1)
        hint = f"the file has {near[0]!r}, which {family.key} does not know" if near else ""
        what = f"the file has no tensor {_readable(pattern)}, {family.key} needs it"
        faults.append(Diagnostic("missing-tensor", what, tensors.label, hint))
    expected = [_readable(p) for p in (*family.required, *family.optional)]
    shapes = {name: a.shape for stored, a in tensors.arrays.items() for name in (stored, normalise(stored))}
    for key in gap.unexpected[:_SHOWN]:
        near = difflib.get_close_matches(key, expected, n=1)
        hint = f"nearest known: {near[0]}" if near else ""
        what = f"the tensor {key[:80]} {list(shapes[key])} is no part of {family.key}"
        faults.append(Diagnostic("unexpected-tensor", what, tensors.label, hint))
    more = max(len(gap.missing) - _SHOWN, 0) + max(len(gap.unexpected) - _SHOWN, 0)
    if more:
        faults.append(Diagnostic("more-differences", f"{more} more differences are not shown", tensors.label))
    return faults


def _readable(pattern: str) -> str:
    """A key pattern for people: `layers\\.\\d+\\.weight` as `layers.N.weight`."""
    return re.sub(r"\\(.)", r"\1", pattern.replace(r"\d+", "N"))
