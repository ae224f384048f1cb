"""Which family a file is of: what the user says, what the file says, and what its keys allow. Never a guess."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import replace

from .. import registry
from ..diagnostics import Diagnostic, ImportFileError, PluginError, UsageError
from ..interfaces import Assumption
from .family import Family, Reading, Tensors, lacking, normalise
from .files.format import LoadedFile
from .settings import tentative

__all__ = ["all_families", "detect", "distinct", "fit", "named", "unprefixed"]

_PREFIXES = ("model.", "net.", "network.", "module.")
"""What a module that holds the network, such as a LightningModule, puts before all its keys."""

_SHOWN = 8
_ROADS = """A class of your own has these roads:
    - only names differ from a family's: --family F --map fc_rec=W_rec
    - hand its step over in Python: eqcompile.load(step, example=(h, x), steps=30, readout=head)
    - export one step as ONNX (inputs x, h; outputs h_next, logits) and compile that file with --set steps=30
    - write it as a NIR graph and compile that file
    - write a family: `eqcompile new family NAME` writes a package with one to change, and its test"""


def all_families() -> dict[str, Family]:
    """Every registered family that can be loaded, and their twins, by key."""
    loaded = registry.load_all("families", Family).entries.values()
    return {family.key: family for primary in loaded for family in (primary, *primary.twins)}


def fit(family: Family, tensors: Tensors, settings: Mapping[str, object] | None = None) -> Reading:
    """What a family makes of a file before its settings are settled: those of `settings` that it declares and that are
    of the right type, defaults for the others. No key depends on a setting but where the file may lack what it is
    about."""
    return family.read(tensors, tentative(family, settings or {}))


def distinct(families: Iterable[Family]) -> list[Family]:
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
    settings: Mapping[str, object] | None = None,
) -> Family:
    """The family of a file. `name` is the user's `--family`, `stated` what the file says; each is a full key or a
    bare class name, which names the one variant that reads all keys. With neither, one family only may read the file;
    `settings` are those that anyone stated (see `fit`).

    Raises UsageError for an unknown or contradictory `name`; ImportFileError where the keys are not those of the
    family, or of several: equal keys and shapes occur in networks that compute different things, so the choice is the
    user's.
    """
    known = all_families() if known is None else known
    if not known:
        hint = "install eqcompile again: families are registered by its entry points"
        raise PluginError(Diagnostic("no-plugins", "0 families are installed", tensors.label, hint))
    settings = settings or {}
    family = None
    if stated is not None and (name is None or named(stated, known)):
        family = _choose(stated, tensors, known, settings, from_file=True)
    if name is not None:
        by_name = _choose(name, tensors, known, settings, from_file=False, stated=family)
        if family is not None and (by_name.same_as or by_name.key) != (family.same_as or family.key):
            what = f"--family says {by_name.key}, the file says that it is {family.key}"
            raise UsageError(Diagnostic("family-contradiction", what, tensors.label, "leave --family out"))
        family = by_name
    if family is None:
        return _by_layout(tensors, known, settings)
    reading = fit(family, tensors, settings)
    if not reading.fits:
        raise ImportFileError(_differences(family, reading, tensors))
    return family


def unprefixed(file: LoadedFile, families: Iterable[Family]) -> LoadedFile:
    """The file without prefixes that all its keys share, where one of `families` fits only then; else as it is.

    A prefix that was removed is an assumption: the file does not say that the rest is a network of its own.
    """
    families, prefix, arrays = list(families), "", dict(file.arrays)
    while shared := next((p for p in _PREFIXES if all(key.startswith(p) for key in arrays)), ""):
        if _any_fits(families, Tensors(file.label, arrays)):
            break
        prefix += shared
        arrays = {key.removeprefix(shared): array for key, array in arrays.items()}
    if not prefix or not _any_fits(families, Tensors(file.label, arrays)):
        return file
    assumed = Assumption("prefix", prefix, "all keys of the file begin with it; it was removed")
    return replace(file, arrays=arrays, assumed=(*file.assumed, assumed))


def _any_fits(families: Iterable[Family], tensors: Tensors) -> bool:
    return any(fit(family, tensors).fits for family in families)


def named(name: str, known: Mapping[str, Family]) -> list[Family]:
    """Families that a full key or a bare class name may mean."""
    if name in known:
        return [known[name]]
    return [] if "." in name else [f for key, f in known.items() if key.rpartition(".")[2] == name]


def _choose(
    name: str,
    tensors: Tensors,
    known: Mapping[str, Family],
    settings: Mapping[str, object],
    *,
    from_file: bool,
    stated: Family | None = None,
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
            raise ImportFileError(Diagnostic("file-family", what, tensors.label, hint))
        hint += "`eqcompile families` lists them"
        raise UsageError(Diagnostic("unknown-family", f"there is no family {name[:80]!r}", "--family", hint))
    readings = {f.key: fit(f, tensors, settings) for f in variants} if len(variants) > 1 else {}
    fitting = _sound(readings, known)
    if len(fitting) > 1:
        raise ImportFileError(_several(fitting, tensors))
    if fitting or len(variants) == 1:
        return (fitting or variants)[0]
    raise ImportFileError([d for f in variants for d in _differences(f, readings[f.key], tensors)])


def _sound(readings: Mapping[str, Reading], known: Mapping[str, Family]) -> list[Family]:
    """Families that read exactly the keys of a file: those whose tensors fit each other, or else all."""
    fitting = distinct(known[key] for key, reading in readings.items() if reading.fits)
    return [f for f in fitting if not readings[f.key].faults] or fitting


def _by_layout(tensors: Tensors, known: Mapping[str, Family], settings: Mapping[str, object]) -> Family:
    readings = {key: fit(family, tensors, settings) for key, family in known.items()}
    fitting = _sound(readings, known)
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise ImportFileError(_several(fitting, tensors))
    nearest = min(readings, key=lambda key: (len(readings[key].missing) + len(readings[key].unexpected), key))
    head = Diagnostic(
        "no-family",
        f"the {len(tensors)} tensors fit none of {len(distinct(known.values()))} families; the nearest is {nearest}",
        tensors.label,
        f"{tensors.shapes}; what differs is listed below; give the whole state_dict of one network. {_ROADS}",
    )
    raise ImportFileError([head, *_differences(known[nearest], readings[nearest], tensors)])


def _several(families: Iterable[Family], tensors: Tensors) -> Diagnostic:
    families = sorted(families, key=lambda f: f.key)
    lines = [f.offer for f in families]
    return Diagnostic(
        "family-ambiguous",
        f"these keys fit {len(families)} families, which compute different things from the same tensors, "
        "and the file does not say which it is",
        tensors.label,
        "add the one that was trained:\n    " + "\n    ".join(lines),
    )


def _differences(family: Family, reading: Reading, tensors: Tensors) -> list[Diagnostic]:
    """One diagnostic for each key that is missing or unexpected and each fault, as many as can be read."""
    unexpected = reading.unexpected if reading.complete else ()
    faults = []
    for key in reading.missing[:_SHOWN]:
        near = difflib.get_close_matches(key, reading.unexpected, n=1)
        hint = f"the file has {near[0]!r}, which {family.key} does not know" if near else ""
        faults.append(replace(lacking(key, family.key, tensors.label), hint=hint))
    shapes = {name: a.shape for stored, a in tensors.arrays.items() for name in (stored, normalise(stored))}
    for key in unexpected[:_SHOWN]:
        near = difflib.get_close_matches(key, (*reading.missing, *reading.read), n=1)
        hint = f"nearest known: {near[0]}" if near else ""
        what = f"the tensor {key[:80]} {list(shapes[key])} is no part of {family.key}"
        faults.append(Diagnostic("unexpected-tensor", what, tensors.label, hint))
    more = max(len(reading.missing) - _SHOWN, 0) + max(len(unexpected) - _SHOWN, 0)
    if more:
        faults.append(Diagnostic("more-differences", f"{more} more differences are not shown", tensors.label))
    return [*faults, *reading.faults]
