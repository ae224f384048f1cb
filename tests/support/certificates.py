"""Certificates as `eqcompile certify --json` writes them, and as one who forges them would."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eqcompile.app.cli.main import main
from eqcompile.toolchain.ir import IntNet
from eqcompile.toolchain.ir.serial import save

__all__ = ["Document", "certificate_of", "sealed"]

Document = dict[str, Any]


def certificate_of(net: IntNet, inputs: dict[str, Any], folder: Path, capsys: pytest.CaptureFixture[str]) -> Document:
    """What `eqcompile certify --json` says; the net lies at `folder/net.onnx`."""
    save(net, folder / "net.onnx")
    np.savez(folder / "x.npz", **inputs)
    capsys.readouterr()
    assert main(["certify", str(folder / "net.onnx"), "--inputs", str(folder / "x.npz"), "--ticks", "8", "--json"]) == 0
    document: Document = json.loads(capsys.readouterr().out)
    return document


def sealed(document: Document) -> bytes:
    """The document with its digest made anew, as one who forges it would."""
    rest = {k: v for k, v in document.items() if k != "sha256"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"))
    return json.dumps(rest | {"sha256": hashlib.sha256(text.encode()).hexdigest()}).encode()
