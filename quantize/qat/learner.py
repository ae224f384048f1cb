"""The network in training: its forward pass is the golden interpreter's, its gradient that of the float operations.

Each batch lowers the net of the present weights and runs golden on the input codes. The differentiable network then
makes the last ticks, each from golden's own states before it, and every state takes golden's value (straight-through).
What is trained is therefore what the hardware computes, to the bit: rounded weights, states and sums, tables with
their resolution and saturation, and the number of steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ...toolchain import data, registry
from ...toolchain.contracts import QuantizeOptions, Run
from ...toolchain.diagnostics import Diagnostic, UnsupportedError
from ...toolchain.ir import EqNet, IntNet, ops, walk
from ..ground import Ground
from ..lower import check_supported
from ..options import kinds_of
from .checkpoint import Checkpoint
from .network import Network, constants
from .weights import QuantizedWeight, straight

__all__ = ["Forward", "Learner"]

Array = NDArray[Any]

_CALIBRATION = 256
"""Samples, beside those with the extreme entries, on which ranges that no proof gives are measured while training."""


@dataclass(frozen=True)
class Forward:
    """One batch: differentiable `logits` whose values are golden's, the net and the run that they are of."""

    logits: Tensor
    net: IntNet
    run: Run


class Learner(nn.Module):
    """Trainable parameters of a checkpoint, for the integers of `options` and inputs like `calibration`.

    Raises UnsupportedError for a net over frames, one without classes, or one of which no weight can be trained.
    """

    def __init__(self, checkpoint: Checkpoint, options: QuantizeOptions, calibration: Mapping[str, Array]) -> None:
        super().__init__()
        self.source: EqNet = checkpoint.net
        self.spread = {name: float(np.std(a)) for name, a in calibration.items() if a.dtype.kind == "f"}
        self.kinds = kinds_of(self.source, options)
        check_supported(self.source)
        ground = Ground.of(self.source, options, calibration=calibration, ranges={})
        # Moments only matter to weights that are no codes yet, which those in training are.
        self.ground = replace(ground, calibration=self._few(calibration), moments={})
        self.constants = constants(self.source)
        self.output = _classes(self.source)
        kinds = {t.param: t.kind for t in checkpoint.trainable}
        self.frozen: dict[str, str] = {}
        self.weights = nn.ModuleDict()
        self.others = nn.ParameterDict()
        read = _weights(self.source)
        for name, (per_row, kept) in read.items():
            value = self.source.param(name)
            if name in kinds:
                fixed = _magnitude(value)
                self.weights[name] = QuantizedWeight(
                    value,
                    _bits(self.kinds[name]) if fixed is None else 2,
                    per_row=per_row and options.per_row,
                    fixed=fixed,
                    kept=kept,
                )
            elif value.dtype.kind == "f":
                self.frozen[name] = "its family derives it from several tensors or by a formula"
        for name, kind in kinds.items():
            if name not in read and kind == "free":
                self.others[name] = nn.Parameter(torch.tensor(self.source.param(name), dtype=torch.float32))
        if not self.weights:
            what = "no weight of this net can be trained: " + "; ".join(f"{n}: {w}" for n, w in self.frozen.items())
            raise UnsupportedError(Diagnostic("tune-nothing", what, checkpoint.file.label))

    def values(self) -> dict[str, Tensor]:
        """Every parameter of the net: quantized weights, trained and constant ones."""
        trained = {name: module() for name, module in self.weights.items()}
        return {**self.constants, **trained, **dict(self.others.items())}

    def arrays(self) -> dict[str, Array]:
        """The trained parameters as float32 arrays; weights are exactly `scale * codes`."""
        with torch.no_grad():
            values = self.values()
            return {n: values[n].numpy().copy() for n in (*self.weights, *self.others)}

    def lowered(self) -> IntNet:
        """The integers of the present parameters."""
        return replace(self.ground, net=_with(self.source, self.arrays()), _codes={}).lowered(self.kinds).net

    def forward(self, inputs: Mapping[str, Array], ticks: int) -> Forward:
        """Run a batch `[batch, *shape]`; gradients flow through the last `ticks` ticks."""
        net = self.lowered()
        codes, _ = data.encode(net, inputs)
        run: Run = registry.stage("golden")(net, codes, trace=True)
        network = Network(self.source, self.values())
        drive = network.drive({i.name: _real(codes[i.name], i.encoding) for i in net.inputs})
        batch = len(next(iter(codes.values())))
        steps = net.schedule.steps
        first = max(steps - ticks, 0)
        hard = {s.name: (run.states[s.name], 2.0 ** -(s.frac or 0)) for s in net.states}
        states = network.initial(drive, batch)
        if first:
            states = {n: _tensor(codes[first - 1], scale) for n, (codes, scale) in hard.items()}
        for tick in range(first, steps):
            soft = network.step(drive, states)
            states = {n: straight(soft[n], _tensor(codes[tick], scale)) for n, (codes, scale) in hard.items()}
        scale = next(o.scale for o in net.outputs if o.name == self.output) or 1.0
        logits = straight(network.readout(drive, states)[self.output], _tensor(run.outputs[self.output], scale))
        return Forward(logits, net, run)

    def _few(self, calibration: Mapping[str, Array]) -> dict[str, Array]:
        """A few samples, the extreme ones among them."""
        rows: set[int] = set(range(min(_CALIBRATION, len(next(iter(calibration.values()))))))
        for array in calibration.values():
            flat = np.asarray(array).reshape(len(array), -1)
            rows |= {int(flat.min(axis=1).argmin()), int(flat.max(axis=1).argmax())}
        return {n: np.asarray(a)[sorted(rows)] for n, a in calibration.items()}


def _classes(net: EqNet) -> str:
    faults = []
    told = [o.name for o in net.outputs if o.kind == "classes"]
    if len(told) != 1:
        faults.append(f"it has {len(told)} outputs that tell classes, 1 is trained")
    if net.schedule.frames:
        faults.append("it reads sequences of frames")
    if faults:
        raise UnsupportedError(
            [Diagnostic("tune-unsupported", f"this net is not trained: {f}", net.name) for f in faults]
        )
    return told[0]


def _weights(net: EqNet) -> dict[str, tuple[bool, NDArray[np.bool_] | None]]:
    """Weights of linear maps: whether each may have a scale a row (a readout has one), and which entries are read."""
    found: dict[str, tuple[bool, NDArray[np.bool_] | None]] = {}
    for block, block_ops in net.blocks:
        for op in walk(block_ops):
            if isinstance(op, (ops.Linear, ops.Conv, ops.Stencil)) and op.weight in net.param_names:
                per_row = block != "readout" and found.get(op.weight, (True, None))[0]
                kept = net.param(op.index) >= 0 if isinstance(op, ops.Stencil) else None
                found[op.weight] = (per_row, kept)
    return found


def _bits(kind: str) -> int:
    return 2 if kind == "ternary" else int(kind.removeprefix("int"))


def _magnitude(value: Array) -> float | None:
    """The one magnitude of the nonzero entries of a ternary weight, None for another."""
    found = np.unique(np.abs(value[value != 0.0]))
    return float(found[0]) if len(found) == 1 else None


def _with(net: EqNet, values: Mapping[str, Array]) -> EqNet:
    params = tuple(replace(p, value=values[p.name].astype(np.float64)) if p.name in values else p for p in net.params)
    return replace(net, params=params)


def _real(codes: Array, encoding: Any) -> Tensor:
    return torch.tensor(codes) if encoding is None else _tensor(codes, encoding.scale)


def _tensor(codes: Array, scale: float) -> Tensor:
    return torch.tensor(codes * scale, dtype=torch.float32)
