"""Bounds of maps with many columns: what they hold at once, and that they are bounds."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from conformance_nets import family
from quantize_nets import loop

from eqcompile.quantization.lower import lower
from eqcompile.toolchain import arrays
from eqcompile.toolchain.certificate import certify, flow, norm
from eqcompile.toolchain.certificate.norm import Sparse, spectral_bound
from eqcompile.toolchain.interfaces import QuantizeOptions


@pytest.mark.parametrize("seed", range(4))
def test_a_sparse_matrix_has_the_bound_of_its_sums(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """Would break if entries were lost, or a sum of magnitudes were one of values."""
    rng = np.random.default_rng(seed)
    matrix = rng.standard_normal((9, 7)) * (rng.random((9, 7)) < 0.4)
    row, column = np.nonzero(matrix)
    bound = Sparse((9, 7), row, column, matrix[row, column]).bound()
    monkeypatch.setattr(norm, "LARGEST_SIDE", 0)
    assert np.linalg.norm(matrix, 2) <= bound
    assert bound == pytest.approx(spectral_bound(matrix), rel=1e-12)


def test_a_lattice_above_the_limit_needs_no_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound of a stencil from its taps is that of its matrix from sums. Would break if row factors were lost."""
    net, _ = family("NeuralCube_release")
    monkeypatch.setattr(norm, "LARGEST_SIDE", 1)
    dense = certify(net)
    monkeypatch.setattr(flow, "LARGEST_SIDE", 1)
    sparse = certify(net)
    assert [b.states for b in sparse.blocks] == [b.states for b in dense.blocks]
    assert sparse.bound == pytest.approx(dense.bound, rel=1e-9)
    assert sparse.bound > 0.0


def test_sums_of_a_large_matrix_copy_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three copies stood here before, 24 bytes an entry."""
    monkeypatch.setattr(norm, "LARGEST_SIDE", 0)
    monkeypatch.setattr(arrays, "_PART", 1 << 10)
    matrix = np.random.default_rng(0).integers(-9, 10, (300, 300))
    tracemalloc.start()
    bound = spectral_bound(matrix)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert np.linalg.norm(matrix, 2) <= bound
    assert peak <= matrix.size


def test_norms_of_a_block_hold_few_matrices() -> None:
    """A block of n units has bounds in three norms with six matrices of float64 at once; it were eleven."""
    rng = np.random.default_rng(3)
    lowered = lower(loop(rng, units=200, steps=3, gain=0.9).net, QuantizeOptions(), calibration=None).net
    certify(lowered, norms=True)
    tracemalloc.start()
    (block,) = certify(lowered, norms=True).blocks
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(block.norms) == 3
    assert peak <= 6 * 8 * 200**2
