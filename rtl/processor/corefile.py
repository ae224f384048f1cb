"""Configuration files of cores: core.json of an artifact, as far as images for the core need it."""

from __future__ import annotations

import json
from pathlib import Path

from eqcompile.toolchain.diagnostics import Diagnostic, UsageError
from eqcompile.toolchain.typed_json import ReadError

from .description import Description

__all__ = ["KEY", "read_core"]

KEY = "configuration"
"""Of the description in core.json."""


def read_core(file: str, option: str) -> Description:
    """The core of a file. `option`: what named it. Raises UsageError: it is no such file."""
    hint = "name core.json of a folder that --target rtl --arch processor wrote"
    try:
        held = json.loads(Path(file).read_text(encoding="utf-8"))
        if not isinstance(held, dict) or held.get(KEY) is None:
            raise UsageError(Diagnostic("rtl-core-file", f"{file} describes no core of the processor", option, hint))
        return Description.from_json(held[KEY], KEY)
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, ReadError) as error:
        raise UsageError(Diagnostic("rtl-core-file", f"{file} cannot be read: {error}", option, hint)) from error
