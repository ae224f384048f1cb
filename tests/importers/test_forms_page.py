"""The page of the forms: its example runs, and the functions that it names are there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import torch

from eqcompile.quantization.lower import lower
from eqcompile.toolchain.importers.families import ranks, spatial, turns
from eqcompile.toolchain.importers.families.build import Builder
from eqcompile.toolchain.importers.family import Tensors
from eqcompile.toolchain.interfaces import QuantizeOptions
from eqcompile.toolchain.reference import run_reference

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "forms.md").read_text(encoding="utf-8")


def test_the_example_is_the_net_that_it_says() -> None:
    """Against PyTorch, the gradient of the pool by autograd."""
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    scope: dict[str, Any] = {}
    exec(compile(code, "forms.md", "exec"), scope)  # noqa: S102 - the page of this repository
    rng = np.random.default_rng(0)
    tensors = {"embed.weight": rng.normal(size=(2, 1, 3, 3)), "embed.bias": rng.normal(size=2)}
    tensors["up.weight"] = 0.5 * rng.normal(size=(3, 2, 3, 3))
    reading = scope["net"].read(Tensors("file", tensors), {"steps": 4})
    assert reading.net is not None, reading
    x = rng.uniform(-1.0, 1.0, (2, 1, 8, 8))
    found = run_reference(reading.net, {"x": x}).outputs["o"]

    functional = torch.nn.functional
    t = {name: torch.from_numpy(value) for name, value in tensors.items()}
    drive = functional.conv2d(torch.from_numpy(x), t["embed.weight"], t["embed.bias"], padding=1)
    low, high = torch.zeros(2, 2, 8, 8, dtype=torch.float64), torch.zeros(2, 3, 4, 4, dtype=torch.float64)
    for _ in range(4):
        at = low.clone().requires_grad_()
        pooled = functional.max_pool2d(functional.conv2d(at, t["up.weight"], padding=1), 2)
        (back,) = torch.autograd.grad(pooled, at, high)
        low = functional.hardsigmoid(drive + back)
        high = functional.hardsigmoid(functional.max_pool2d(functional.conv2d(low, t["up.weight"], padding=1), 2))
    np.testing.assert_allclose(found, high.numpy(), rtol=0, atol=1e-12)
    assert lower(reading.net, QuantizeOptions(), calibration={"x": x}).net.states


def test_the_page_lists_every_form() -> None:
    """A function that is added is documented, one that is gone is not."""
    named = {name for name in re.findall(r"`(?:spatial|ranks|turns)\.(\w+)", PAGE)}
    assert named | {"checkerboard"} == {*spatial.__all__, *ranks.__all__, *turns.__all__}
    assert all(hasattr(Builder, name) for name in re.findall(r"`b\.(\w+)", PAGE))
