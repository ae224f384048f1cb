"""Fixtures of the tests that read PyTorch's own modules."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture
def seeded_torch() -> Iterator[None]:
    """PyTorch with one seed, and float64 as the type of its new tensors."""
    import torch

    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(before)
