"""The Python interface."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import eqcompile as eq
from eqcompile.app import api
from eqcompile.toolchain.diagnostics import SimulatorError, UsageError

EXAMPLES = Path(__file__).parents[2] / "examples"
CHECKPOINT = EXAMPLES / "checkpoints" / "digits_looped.pt"


def samples(count: int) -> dict[str, np.ndarray]:
    with np.load(EXAMPLES / "data" / "digits_test.npz") as file:
        return {"x": file["x"][:count]}


def test_the_package_offers_what_the_api_does() -> None:
    """A function of the API that `import eqcompile` does not give would be reachable only by its module."""
    assert eq.__all__ == api.__all__
    assert all(getattr(eq, name) is getattr(api, name) for name in api.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = eq.nothing


def test_importing_the_package_loads_nothing_else() -> None:
    """A script that only asks for the version would wait for NumPy."""
    code = "import sys, eqcompile; print(*{m.split('.')[0] for m in sys.modules})"
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split()) - sys.stdlib_module_names - {"__mp_main__", "sitecustomize", "usercustomize"}
    assert {m for m in loaded if not m.startswith(("_", "google", "mpl_toolkits"))} == {"eqcompile"}


def test_from_checkpoint_to_a_run_that_equals_golden(tmp_path: Path) -> None:
    """The stages join without a conversion by the caller, and a wrong run is noticed."""
    net = eq.load(CHECKPOINT)
    q = eq.quantize(net, calibrate=samples(50), weights="int4")
    art = eq.compile(q, target="numpy", out=tmp_path / "out", samples=2)
    assert eq.open(tmp_path / "out").net == art.net == q.net
    run = art.run(samples(4))
    eq.compare(eq.golden(q, samples(4)), run).require()
    other = eq.quantize(net, calibrate=samples(50), weights="int5")
    difference = eq.compare(eq.golden(other, samples(4)), run)
    assert not difference.ok
    assert "DIFFERS" in str(difference)
    with pytest.raises(SimulatorError, match="compare-diverges"):
        difference.require()
    with pytest.raises(UsageError, match="no codes to compare"):
        eq.compare(net.run(samples(4)), run)


def test_a_wrong_name_is_told_with_the_nearest() -> None:
    """Would break if a misspelt target ended in an import error."""
    with pytest.raises(UsageError, match="did you mean 'numpy'"):
        eq.target("numpi")
