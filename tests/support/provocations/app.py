"""Commands: what they are told, and where they write."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

from emitting import emitted
from float_nets import float_net

from eqcompile.app import tuning
from eqcompile.app.files import replacing
from eqcompile.app.report.write import check_folder
from eqcompile.sim import c_runner
from eqcompile.targets.c.target import CTarget
from eqcompile.targets.numpy.target import NumpyTarget
from eqcompile.targets.rtl.target import RtlTarget
from eqcompile.toolchain.artifact import MANIFEST
from eqcompile.toolchain.ir import ops
from eqcompile.toolchain.ir.serial import save

from .case import CHECKPOINTS, SAMPLES, Case, Provocations, command, printed, tiny
from .rtl import core_file

LOOPED = CHECKPOINTS / "digits_looped.pt"


def artifact(case: Case, target: str) -> Path:
    """An artifact for NumPy, whose manifest says that it is of this target."""
    emitted(NumpyTarget(), tiny(), case.folder / "out")
    manifest = case.folder / "out" / MANIFEST
    document = {**json.loads(manifest.read_text(encoding="utf-8")), "target": target, "core": None}
    manifest.write_text(json.dumps(document), encoding="utf-8")
    return case.folder / "out"


def float_file(case: Case) -> Path:
    """A float net in a file."""
    save(float_net((ops.Add(out="y", a="h", b="x"),), {}, shape=(2,)), case.folder / "float.onnx")
    return case.folder / "float.onnx"


def compiled(*options: object) -> Any:
    """The looped digits net compiled to NumPy with these options."""
    return command(LOOPED, "--target", "numpy", "-o", "out", *options)


def other_codes(case: Case) -> Any:
    write = tuning._write

    def spoil(path: Path, checkpoint: Any) -> None:
        weights = {key: -array for key, array in checkpoint["state_dict"].items()}
        write(path, {**checkpoint, "state_dict": weights})

    case.patch.setattr(tuning, "_write", spoil)
    return command("tune", LOOPED, "--data", SAMPLES, "-o", "t.pt", "--epochs", 1, "--hold-out", 0, "--ticks", 1)


def too_large_for_the_board(case: Case) -> Any:
    case.patch.setattr(c_runner, "BOARD_BYTES", c_runner.CODE_BYTES)
    return command("verify", emitted(CTarget(), tiny(), case.folder / "out").folder, "--simulator", "c-cortex-m")


def verified_image(case: Case) -> Any:
    """An image, asked to run in a simulator of cores."""
    image = emitted(RtlTarget.of(core=core_file(case)), tiny(), case.folder / "out")
    return command("verify", image.folder, "--simulator", "cocotb-icarus")


def folder_output(case: Case) -> Any:
    with replacing(case.folder, force=True):
        pass


APP: Provocations = {
    "artifact-core": lambda case: command("fault", "run", artifact(case, "rtl"), "--model", "seu", "-o", "c"),
    "bad-setting": lambda case: compiled("--set", "steps"),
    "defect": lambda case: printed(KeyError("h")),
    "disk-full": lambda case: printed(OSError(errno.ENOSPC, "No space left on device", "out/net.onnx")),
    "interrupted": lambda case: printed(KeyboardInterrupt()),
    "no-simulator": lambda case: command("verify", artifact(case, "stranger")),
    "not-integers": lambda case: command("fault", "run", float_file(case), "--model", "seu", "-o", "c"),
    "output-is-folder": folder_output,
    "output-not-a-folder": lambda case: check_folder(case.file("report"), force=False),
    "renamed-option": lambda case: command("fault", "run", "x", "--model", "seu", "--n", 9, "-o", "c"),
    "setting-twice": lambda case: compiled("--set", "steps=1", "--set", "steps=2"),
    "simulator-capacity": too_large_for_the_board,
    "simulator-no-bench": verified_image,
    "simulator-of-other-target": lambda case: compiled("--simulator", "c-host"),
    "tune-changed": other_codes,
    "unknown-argument": lambda case: command("targets", "model.pt", "more"),
    "unknown-command": lambda case: command("inspct"),
    "unknown-option": lambda case: command("fault", "run", "x", "--model", "seu", "--sits", "state", "-o", "c"),
    "usage": lambda case: command("run"),
    "widths-twice": lambda case: compiled(
        *("--weights", "int4", "--weights", "int8", "--states", "h=9", "--states", "h=8,g=9", "--guard-bits", "1,2")
    ),
}
