"""The network in training: its forward pass is the golden interpreter's, its gradient that of the float operations.

Each batch lowers the net of the present weights and runs golden on the input codes. The differentiable network then
makes the last ticks, each from golden's own states before it, and every state takes golden's value (straight-through).
What is trained is therefore what the hardware computes, to the bit: rounded weights, states and sums, tables with
their resolution and saturation, and the number of steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from eqcompile.toolchain.golden import run as run_golden
from eqcompile.toolchain.interfaces import QuantizeOptions, Run
from eqcompile.toolchain.options import bits_of

from ...toolchain import data
from ...toolchain.arrays import Codes, Numbers, Reals
from ...toolchain.diagnostics import Diagnostic, UnsupportedError, UsageError
from ...toolchain.ir import Encoding, EqNet, IntNet
from ..ground import Ground
from ..lower import check_supported
from ..options import kinds_of
from ..plan import make_plan, taken, uses
from ..stopping import without_stop
from .checkpoint import Checkpoint
from .network import Network, constants
from .weights import QuantizedWeight, straight

__all__ = ["Forward", "Learner"]

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

    Weights start as the codes and scales, biases as the corrected ones, of post-training quantization. A weight whose
    nonzero entries have one magnitude keeps it, but for one that may take any values if `scales`.

    Raises UnsupportedError for a net over frames, one without classes, or one of which no weight can be trained.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        options: QuantizeOptions,
        calibration: Mapping[str, Numbers],
        *,
        scales: bool = False,
    ) -> None:
        super().__init__()
        self.source: EqNet = without_stop(checkpoint.net)
        self.spread = {name: float(np.std(a)) for name, a in calibration.items() if a.dtype.kind == "f"}
        self.kinds = kinds_of(self.source, options)
        check_supported(self.source)
        ground = Ground.of(self.source, options, calibration=calibration, ranges={})
        # Moments only matter to weights that are no codes yet, which those in training are.
        self.ground = replace(ground, calibration=self._few(calibration), moments={})
        self.constants = constants(self.source)
        self.output = _classes(self.source)
        kinds = {t.param: t.kind for t in checkpoint.trainable}
        plan = make_plan(
            self.source,
            self.kinds,
            per_row=options.per_row,
            moments=ground.moments,
            source=self.source,
            known={},
        )
        self.frozen: dict[str, str] = {}
        self.weights = nn.ModuleDict()
        self.others = nn.ParameterDict()
        # Where a readout reads a weight too, all rows share its scale.
        for op, use in sorted(uses(self.source, per_row=options.per_row), key=lambda found: found[1][1]):
            name, codes = use[0], plan.codes[use]
            if name in kinds and name not in self.weights:
                ternary = _ternary(self.source.param(name))
                fixed = ternary and not (scales and kinds[name] == "free")
                bits = 2 if ternary else bits_of(self.kinds[name])
                self.weights[name] = QuantizedWeight(
                    taken(self.source, op), codes.codes, codes.scale, bits, fixed=fixed
                )
            elif name not in kinds:
                self.frozen[name] = "its family derives it from several tensors or by a formula"
        for name, kind in kinds.items():
            if name not in self.weights and kind == "free":
                self.others[name] = nn.Parameter(torch.tensor(plan.net.param(name), dtype=torch.float32))
        if not self.weights:
            what = "no weight of this net can be trained: " + "; ".join(f"{n}: {w}" for n, w in self.frozen.items())
            raise UnsupportedError(Diagnostic("tune-nothing", what, checkpoint.file.label))

    def scalable(self, name: str) -> bool:
        """Whether the scale of a weight may change."""
        return name in self.weights and not self._quantized(name).fixed

    def shrink(self, name: str, factor: float) -> None:
        """Multiply the scale of a weight that is `scalable`; its codes stay."""
        self._quantized(name).shrink(factor)

    def _quantized(self, name: str) -> QuantizedWeight:
        weight = self.weights[name]
        assert isinstance(weight, QuantizedWeight)
        return weight

    def values(self) -> dict[str, Tensor]:
        """Every parameter of the net: quantized weights, trained and constant ones."""
        trained = {name: module() for name, module in self.weights.items()}
        return {**self.constants, **trained, **dict(self.others.items())}

    def arrays(self) -> dict[str, Reals]:
        """The trained parameters as float32 arrays; weights are exactly `scale * codes`."""
        with torch.no_grad():
            values = self.values()
            return {n: values[n].numpy().copy() for n in (*self.weights, *self.others)}

    def net(self) -> EqNet:
        """The float net of the present parameters."""
        return _with(self.source, self.arrays())

    def lowered(self) -> IntNet:
        """The integers of the present parameters."""
        return replace(self.ground, net=self.net(), _codes={}).lowered(self.kinds).net

    def forward(self, inputs: Mapping[str, Numbers], ticks: int | None) -> Forward:
        """Run a batch `[batch, *shape]`; gradients flow through the last `ticks` ticks, all if None."""
        self._demand_finite()
        net = self.lowered()
        codes, _ = data.encode(net, inputs)
        run: Run = run_golden(net, codes, trace=True)
        network = Network(self.source, self.values())
        drive = network.drive({i.name: _real(codes[i.name], i.encoding) for i in net.inputs})
        batch = len(next(iter(codes.values())))
        steps = net.schedule.steps
        first = 0 if ticks is None else max(steps - ticks, 0)
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

    def _demand_finite(self) -> None:
        wrong = [name for name, value in self.arrays().items() if not np.isfinite(value).all()]
        if wrong:
            what = f"training made {', '.join(wrong)} infinite or not a number"
            raise UsageError(Diagnostic("tune-diverged", what, "--lr", "lower it"))

    def _few(self, calibration: Mapping[str, Numbers]) -> dict[str, Numbers]:
        """A few samples, the extreme ones among them."""
        rows: set[int] = set(range(min(_CALIBRATION, len(next(iter(calibration.values()))))))
        for array in calibration.values():
            flat = np.asarray(array).reshape(len(array), -1)
            rows |= {int(flat.min(axis=1).argmin()), int(flat.max(axis=1).argmax())}
        return {n: a[sorted(rows)] for n, a in calibration.items()}


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


def _ternary(value: Numbers) -> bool:
    """Whether all nonzero entries have one magnitude: such a weight keeps it."""
    return len(np.unique(np.abs(value[value != 0.0]))) == 1


def _with(net: EqNet, values: Mapping[str, Reals]) -> EqNet:
    params = tuple(replace(p, value=values[p.name].astype(np.float64)) if p.name in values else p for p in net.params)
    return replace(net, params=params)


def _real(codes: Codes, encoding: Encoding | None) -> Tensor:
    return torch.tensor(codes) if encoding is None else _tensor(codes, encoding.scale)


def _tensor(codes: Codes, scale: float) -> Tensor:
    return torch.tensor(codes * scale, dtype=torch.float32)
