"""The attacks of `benchmarks/recovery.py`: they break no bound, and they would notice one that is too small."""

from __future__ import annotations

import importlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eqcompile.toolchain import golden
from eqcompile.toolchain.certificate import recovery

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("recovery")


def test_attacks_break_no_bound_and_notice_one_that_is_too_small(benchmark: Any) -> None:
    """One code less, or all labels called safe, is refuted; every tick of every run is counted as a pair."""
    net, codes, _ = benchmark.load("digits_layered", None, 8)
    whole, ticks = golden.run(net, codes), max(benchmark.TICKS)
    proved = recovery(net, codes, ticks=ticks)
    total = benchmark.attack(net, codes, whole, proved, 6, 0)
    assert (total.runs, total.pairs, total.broken) == (48, 48 * ticks, 0)
    assert total.harmed[0] > total.harmed[-1]
    assert total.last.max() > 0
    for wrong in (replace(proved, apart=proved.apart // 4), replace(proved, safe=np.ones_like(proved.safe))):
        assert benchmark.attack(net, codes, whole, wrong, 6, 0).broken > 0
