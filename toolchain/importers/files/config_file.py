"""Settings in a JSON or TOML file."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

from ...diagnostics import Diagnostic, UsageError
from .containers import READ_ERRORS

__all__ = ["read_config"]

_MAX_CONFIG = 1 << 20


def read_config(path: Path) -> dict[str, object]:
    """Settings by name from a JSON or TOML file (by its ending; one table at the top); UsageError if it is neither."""
    where = str(path)
    reader = {".json": json.loads, ".toml": tomllib.loads}.get(path.suffix.lower())
    if reader is None:
        what = f"the config file ends in {path.suffix!r}, must be .json or .toml"
        raise UsageError(Diagnostic("config-format", what, where))
    try:
        if path.stat().st_size > _MAX_CONFIG:
            what = f"the config file has {path.stat().st_size} bytes, more than {_MAX_CONFIG}"
            raise UsageError(Diagnostic("config-format", what, where))
        table = reader(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(Diagnostic("config-not-readable", f"cannot read: {error.strerror}", where)) from error
    except READ_ERRORS as error:
        if isinstance(error, UsageError):
            raise
        what = f"not valid {path.suffix[1:].upper()}: {' '.join(str(error).split())[:200]}"
        raise UsageError(Diagnostic("config-format", what, where)) from error
    if not isinstance(table, dict):
        what = f"the config file holds a {type(table).__name__}, must be a table of settings"
        raise UsageError(Diagnostic("config-format", what, where, 'for example {"steps": 30}'))
    return table
