"""Block RAM of a core, estimated before synthesis, against what Yosys maps."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from emitting import emitted
from rtl_engines import cube_net
from strategies import small_net

from eqcompile.app.documents import Inspection
from eqcompile.app.inspection import inspect_path
from eqcompile.app.options import InspectOptions
from eqcompile.quantization.lower import lower
from eqcompile.targets.rtl.engines import choose
from eqcompile.targets.rtl.estimate import memory_estimate
from eqcompile.targets.rtl.synth.flow import Workshop
from eqcompile.targets.rtl.synth.parse import cell_counts
from eqcompile.targets.rtl.synth.parts import PARTS
from eqcompile.targets.rtl.synth.tools import Deadline
from eqcompile.targets.rtl.target import RtlTarget
from eqcompile.toolchain.importers.api import import_model
from eqcompile.toolchain.ir import IntNet
from eqcompile.toolchain.ir.serial import save
from eqcompile.toolchain.options import QuantizeOptions

DIGITS = Path(__file__).parents[2] / "examples" / "checkpoints" / "digits_ternary.pt"
TIMEOUT_S = 600.0
CELLS = {"ecp5-25k": "DP16KD", "hx8k": "SB_RAM40_4K"}


def ternary() -> IntNet:
    return lower(import_model(DIGITS).net, QuantizeOptions(), calibration=None).net


def small() -> IntNet:
    return small_net([[1, -1, 0], [0, 1, 1], [-1, 0, 1]], table=[-90, -40, 0, 30, 80], first=-2, steps=6)


def mapped(folder: Path, part: str) -> int:
    """How many block RAMs Yosys maps of the core in `folder`; it stops before the logic."""
    shop = Workshop(folder, PARTS[part], Deadline.after(TIMEOUT_S))
    until = f"read_verilog core.v; {PARTS[part].family.synth} -top core -run begin:map_gates"
    shop.yosys(f"{until}; tee -q -o stat.json stat -json", "core")
    return cell_counts(shop.read("stat.json"), "core").get(CELLS[part], 0)


@pytest.mark.simulator
@pytest.mark.parametrize(
    ("net", "part", "shallow"),
    [(small, "hx8k", 0), (ternary, "ecp5-25k", 0), (cube_net, "hx8k", 2)],
    ids=["small", "ternary", "cube"],
)
def test_the_estimate_is_what_yosys_maps(net: Callable[[], IntNet], part: str, shallow: int, tmp_path: Path) -> None:
    """A bound that is far off would let a design fail after minutes, or refuse one that fits. `shallow`: memories of up
    to 32 words, which ask for nothing; an iCE40 has block RAM alone to put them."""
    made = net()
    estimate = memory_estimate(made, PARTS[part])
    emitted(RtlTarget.of(arch=estimate.architecture), made, tmp_path / "core")
    needed, available = estimate.usage["bram"]
    assert (needed + shallow, available) == (mapped(tmp_path / "core", part), PARTS[part].has["bram"])


def inspected(path: Path, part: str | None) -> Inspection:
    document = inspect_path(path, InspectOptions(part=part))
    assert "candidates" not in document
    return document


def test_inspect_says_what_a_core_takes(tmp_path: Path) -> None:
    """Of a net and of its core the same; without a part nothing is elaborated."""
    path = tmp_path / "small.onnx"
    save(small(), path)
    assert "core_memory" not in inspected(path, None)
    of_net = inspected(path, "ecp5-25k")["core_memory"]
    of_core = inspected(emitted(RtlTarget.of(), small(), tmp_path / "core").folder, "ecp5-25k")["core_memory"]
    assert of_net["usage"] == of_core["usage"]
    assert '"available": 56' in json.dumps(of_net["usage"])
    assert of_net["architecture"] == of_core["architecture"] == "serial"
    assert json.dumps(of_net).count("estimated") == 1


def test_auto_says_what_the_weights_take_of_the_part() -> None:
    """Bits alone leave the reader to look up what a block holds."""
    reason = choose(ternary(), (), {"ecp5-25k"}).reasons[-1]
    assert f"{2048 * 13 + 512 * 16:,} bits of memory for weights (2 of 56 block RAMs (18 kbit) of ecp5-25k)" in reason
    assert "(1 of 4 single-port RAMs (256 kbit) of up5k)" in choose(ternary(), (), {"up5k"}).reasons[-1]
