"""A family: which tensors a checkpoint of it holds, and the net that they are."""

from eqcompile.toolchain.importers.families.build import Builder, family, steps
from eqcompile.toolchain.importers.family import Setting

__all__ = ["leaky_loop"]


@family(
    "plugin.LeakyLoop",
    "leaky tanh loop between two layers",
    steps(20),
    Setting("leak", 0.5, "share of the new value in each step"),
)
def leaky_loop(b: Builder) -> None:
    """`h <- (1 - leak) h + leak tanh(W_encoder x + b + W_loop h + b)`, logits `W_decoder h + b`; h0 = 0."""
    drive, h = b.driven("encoder")
    b.relax(h, b.act("new", b.add("pre", drive, b.linear("recurrent", h, "loop"))), "leak")
    b.read(h, "decoder")
