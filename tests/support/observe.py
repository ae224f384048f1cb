"""What golden computes on the way, for tests of the proved intervals."""

from __future__ import annotations

from collections.abc import Mapping
from unittest import mock

import numpy as np
from numpy.typing import NDArray

from eqcompile.toolchain import golden
from eqcompile.toolchain.ir import Interval, IntNet

Array = NDArray[np.int64]


def observed(net: IntNet, inputs: Mapping[str, Array]) -> dict[str, Interval]:
    """Smallest and largest code that every value takes in a run, by a spy on golden's own check."""
    seen: dict[str, Interval] = {}
    original = golden.Machine.hold

    def spy(self: golden.Machine, name: str, value: Array) -> Array:
        if value.dtype != bool:
            found = Interval(int(value.min()), int(value.max()))
            seen[name] = found | seen.get(name, found)
        return original(self, name, value)

    with mock.patch.object(golden.Machine, "hold", spy):
        golden.run(net, inputs)
    return seen
