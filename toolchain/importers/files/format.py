"""What a file format is: how to recognise the bytes of a file, and how they become named tensors."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NoReturn

from ...arrays import Array
from ...diagnostics import Diagnostic, ImportFileError
from ...interfaces import Assumption
from .containers import READ_ERRORS

__all__ = ["SAVE_STATE", "FileFormat", "LoadedFile", "config_table", "config_text", "refuse"]

SAVE_STATE = "save the network with torch.save(model.state_dict(), path)"


@dataclass(frozen=True)
class LoadedFile:
    """Tensors of one file by the file's own keys, and what the file says about them.

    `family` is the network's class as the file states it (`package.Class`, or a bare class name), None if it does
    not; `config` holds constructor arguments, `forward_kwargs` arguments of the call. `wrapper` names the form;
    `assumed` says which part of the file was taken for the network where its form does not.
    """

    label: str
    arrays: Mapping[str, Array]
    family: str | None = None
    config: Mapping[str, object] = field(default_factory=dict)
    forward_kwargs: Mapping[str, object] = field(default_factory=dict)
    wrapper: str = "state_dict"
    assumed: tuple[Assumption, ...] = ()


@dataclass(frozen=True)
class FileFormat:
    """One kind of checkpoint file, registered as an entry point of `eqcompile.formats`.

    `matches(data)` says whether bytes are of this kind, by their content alone and without an error; at most one format
    may. `read(data, label)` gives their tensors, `label` being the file's name; it must believe no size, run no code,
    and raise ImportFileError with every fault.
    """

    name: str
    matches: Callable[[bytes], bool]
    read: Callable[[bytes, str], LoadedFile]


def config_text(text: str | None, label: str) -> Mapping[str, object]:
    """The table in a JSON text; an empty one if there is none. Raises ImportFileError."""
    if text is None:
        return {}
    try:
        config = json.loads(text)
    except READ_ERRORS as error:
        raise ImportFileError(Diagnostic("config-not-json", f"the config is not JSON: {error}", label)) from error
    return config_table(config, "config", label)


def config_table(value: object, name: str, label: str) -> Mapping[str, object]:
    """A table of names; ImportFileError if it is another thing."""
    if not isinstance(value, dict) or not all(isinstance(k, str) for k in value):
        refuse("config-not-table", f"{name} is a {type(value).__name__}, must be a table of names", label)
    return dict(value)


def refuse(code: str, what: str, where: str, hint: str = "") -> NoReturn:
    """Raise the ImportFileError of one fault."""
    raise ImportFileError(Diagnostic(code, what, where, hint))
