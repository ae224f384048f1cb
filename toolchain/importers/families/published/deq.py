"""A deep equilibrium layer as nets built with torchdeq have it (Geng and Kolter 2023), solved by plain iteration."""

from __future__ import annotations

from ...family import Setting
from ..build import Builder, family, steps

__all__ = ["tanh_cell"]


@family(
    "torchdeq.TanhCell",
    "tanh cell with an injected input, a fixed number of plain steps (fixed_point_iter)",
    steps(40),
    Setting("tau", 1.0, "damping: share of the new value in each step"),
)
def tanh_cell(b: Builder) -> None:
    """`z <- (1-t) z + t tanh(cell z + inject x)`, z0 = 0, as `fixed_point_iter` with `return_final`.

    Anderson's and Broyden's methods, and stopping at a tolerance, are other schedules; where the net has one
    equilibrium their result is near this one's.
    """
    drive, z = b.driven("inject")
    new = b.act("new", b.add("pre", b.linear("recurrent", z, "cell"), drive))
    tau = b.share("tau")
    b.update(z, b.damp("next", z, new, tau) if tau < 1.0 else new)
    b.read(z, "out")
