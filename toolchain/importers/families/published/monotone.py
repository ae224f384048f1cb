"""Monotone operator nets of Winston and Kolter 2020, "Monotone operator equilibrium networks", code monotone_op_net.

The equilibrium is `z = relu(W z + U x + b)`, `W = (1 - m) I - A^T A + B - B^T`. The solvers are schedules: as many
steps as are asked for, and then, as the code does, one evaluation of the right-hand side.
"""

from __future__ import annotations

import numpy as np

from ....ir import ops
from ...family import Setting
from ..build import Builder, family, steps
from .coupled import choose, option

__all__ = ["single_fc"]

_SOLVERS = ("forward-backward", "peaceman-rachford")
_LINEAR = "mon.linear_module"


@family(
    "mondeq.SingleFcNet",
    "equilibrium of a monotone operator with relu, by one of two splitting solvers",
    steps(50),
    option("solver", _SOLVERS, "splitting method"),
    Setting("alpha", None, "step size of the solver", example=1.0),
    Setting("m", None, "strong monotonicity that the weight is made with", "weights", example=1.0),
)
def single_fc(b: Builder) -> None:
    """Forward-backward: `z <- relu((1-a) z + a (W z + U x + b))`. Peaceman-Rachford, `V = ((1+a) I - a W)^-1`:
    `u <- 2 V (|u| + a (U x + b)) - |u|`, `z = relu(u)`.

    The code keeps z and u and reads `2 z - u`, which is `|u|`; here u is the state `before_relu`. Steps start from
    zero.
    """
    for key in ("A", "B"):
        b.find(f"{_LINEAR}.{key}.weight")
    b.expect(f"{_LINEAR}.U")
    b.expect("Wout")
    alpha, m = b.real("alpha", over=0.0), b.real("m", over=0.0)
    drive = b.drive(f"{_LINEAR}.U")
    first, second = b.matrix(f"{_LINEAR}.A.weight"), b.matrix(f"{_LINEAR}.B.weight")
    square = first.shape == second.shape == (len(first), len(first))
    b.demand(f"{_LINEAR}.B.weight", square, f"A {list(first.shape)} and B {list(second.shape)} must be square, alike")
    eye = np.eye(len(first))
    coupling = (1.0 - m) * eye - first.T @ first + second - second.T
    source = f"{b.tensors.source(f'{_LINEAR}.A.weight')} and B, m = {m:g}"
    units = len(first)
    if choose(b, "solver", _SOLVERS) == "forward-backward":
        z = b.state("z", units)
        b.begin("step")
        inner = b.add("pre", b.linear_of("recurrent", z, "W", coupling, source), drive)
        b.update(z, b.act("new", b.damp("moved", z, inner, alpha) if alpha < 1.0 else inner, "relu"))
        b.begin("readout")
    else:
        inverse = np.linalg.inv((1.0 + alpha) * eye - alpha * coupling)
        note = f"{source}, resolvent with a = {alpha:g}"
        pushed = b.linear_of("pushed", drive, "V_drive", 2.0 * alpha * inverse, note)
        u = b.state("before_relu", units)
        b.begin("step")
        size = b.emit(ops.Abs(out="size", x=u))
        reflected = b.add("reflected", b.linear_of("recurrent", size, "V", 2.0 * inverse, note), pushed)
        b.update(u, b.sub("new", reflected, size))
        b.begin("readout")
        z = b.act("z", u, "relu")
    last = b.add("last_pre", b.linear_of("last_recurrent", z, "W", coupling, source), drive)
    b.output("logits", b.linear("logits", b.act("last", last, "relu"), "Wout"))
