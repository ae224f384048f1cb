"""A looped net in PyTorch, and the same state upsets by PyTorch alone and by three fault injectors.

Codes are float32, in which every one of them is exact (the readout's last sum is made in integers); a tick's register
is a module of its own, so that an injector can name the tick.
"""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from eqcompile.sim.faults.table import FaultTable
from eqcompile.toolchain.ir import IntNet, ops

BATCH, ROUNDS, ONES = 1024, 8, 300
BITS = 8
VERSIONS = {"seu-injection-framework": "1.3.0", "pytorchfi": "0.6.0", "mrfi": "2.1.0"}

Labels = tuple[NDArray[np.int64], float, float]
"""Labels, and the seconds that they took: wall-clock, and CPU of all threads."""


class Clock:
    """Seconds of wall-clock and of CPU within its `with` blocks."""

    def __init__(self) -> None:
        self.wall = self.cpu = 0.0

    def __enter__(self) -> None:
        self.began = time.perf_counter(), time.process_time()

    def __exit__(self, *_: object) -> None:
        self.wall += time.perf_counter() - self.began[0]
        self.cpu += time.process_time() - self.began[1]


@dataclass(frozen=True)
class Faults:
    """By column; `x` `[samples, pixels]` are input codes."""

    sample: NDArray[np.int64]
    unit: NDArray[np.int64]
    bit: NDArray[np.int64]
    tick: NDArray[np.int64]
    x: Tensor

    @classmethod
    def of(cls, table: FaultTable, codes: NDArray[np.int64]) -> Faults:
        columns = (table.faults[name].astype(np.int64) for name in ("sample", "unit", "bit", "tick"))
        return cls(*columns, torch.from_numpy(codes.astype(np.float32)))

    def inputs(self, which: slice) -> Tensor:
        return self.x[torch.from_numpy(self.sample[which])]


def flipped(codes: Tensor, bit: Tensor) -> Tensor:
    """Codes of 8 bits in two's complement with one bit flipped."""
    return ((((codes.int() & 255) ^ (1 << bit).int()) ^ 128) - 128).to(codes.dtype)


class Register(nn.Module):
    """What a tick reads. pytorchfi asks layers for a weight."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros(1))

    def forward(self, h: Tensor) -> Tensor:
        return h.clone()


class Network(nn.Module):
    """Logits of input codes; `armed[tick, unit]` below 0 flips bit `bit` of that register (for seu-injection)."""

    def __init__(self, net: IntNet) -> None:
        super().__init__()
        drive, rescale, add = net.drive
        linear, widen, _, lookup = net.step
        read, scale, bias = net.readout
        assert isinstance(drive, ops.Linear)
        assert isinstance(rescale, ops.Rescale)
        assert isinstance(add, ops.Add)
        assert isinstance(linear, ops.Linear)
        assert isinstance(widen, ops.Rescale)
        assert isinstance(lookup, ops.Lookup)
        assert isinstance(read, ops.Linear)
        assert isinstance(scale, ops.Rescale)
        assert scale.shift == 0
        assert isinstance(bias, ops.Add)
        self.ticks = net.schedule.steps
        self.w_in, self.w_rec, self.w_out = (self.floats(net, op.weight) for op in (drive, linear, read))
        self.table = torch.from_numpy(net.param(lookup.table).astype(np.float32))
        self.first, self.last = lookup.first, lookup.first + len(self.table) - 1
        self.rescale = torch.from_numpy(net.param(rescale.multiplier).copy()), rescale.shift
        self.bias = torch.from_numpy(net.param(add.b).copy())
        self.widen = torch.from_numpy(net.param(widen.multiplier).astype(np.int32)), widen.shift
        self.scale = torch.from_numpy(net.param(scale.multiplier).copy())
        self.out_bias = torch.from_numpy(net.param(bias.b).copy())
        self.registers = nn.ModuleList(Register() for _ in range(self.ticks + 1))
        self.armed = nn.Parameter(torch.ones(self.ticks + 1, len(self.w_rec)), requires_grad=False)
        self.bit: int | None = None

    @staticmethod
    def floats(net: IntNet, name: str) -> Tensor:
        return torch.from_numpy(net.param(name).astype(np.float32)).T.contiguous()

    def drive(self, x: Tensor) -> Tensor:
        multiplier, shift = self.rescale
        return ((((x @ self.w_in).long() * multiplier + ((1 << shift) >> 1)) >> shift) + self.bias).float()

    def tick(self, h: Tensor, drive: Tensor) -> Tensor:
        multiplier, shift = self.widen
        total = h @ self.w_rec
        if shift:
            total = ((total.int() * multiplier + ((1 << shift) >> 1)) >> shift).float()
        else:
            total = total * multiplier
        pre = drive + total
        return self.table[(pre.clamp(self.first, self.last) - self.first).long()]

    def read(self, h: Tensor) -> Tensor:
        return ((h @ self.w_out).long() * self.scale + self.out_bias).argmax(dim=-1)

    def forward(self, x: Tensor) -> Tensor:
        drive = self.drive(x)
        h = torch.zeros_like(drive)
        for tick, register in enumerate(self.registers):
            h = register(h)
            if self.bit is not None:
                h = torch.where(self.armed[tick] < 0, flipped(h, torch.tensor(self.bit)), h)
            if tick < self.ticks:
                h = self.tick(h, drive)
        return self.read(h)


MOST = BATCH * ROUNDS
"""Faults that a peer takes at the most."""


def batches(size: int, count: int) -> Iterator[slice]:
    return (slice(i, i + size) for i in range(0, size * count, size))


def again(network: Network, given: Faults, size: int, count: int) -> Labels:
    """The whole net again for each batch of faults, no injector."""
    found, clock = [], Clock()
    with torch.no_grad(), clock:
        for part in batches(size, count):
            drive = network.drive(given.inputs(part))
            h = torch.zeros_like(drive)
            for tick in range(network.ticks + 1):
                rows = np.flatnonzero(given.tick[part] == tick)
                if len(rows):
                    row, unit = torch.from_numpy(rows), torch.from_numpy(given.unit[part][rows])
                    h[row, unit] = flipped(h[row, unit], torch.from_numpy(given.bit[part][rows]))
                if tick < network.ticks:
                    h = network.tick(h, drive)
            found.append(network.read(h))
    return torch.cat(found).numpy(), clock.wall, clock.cpu


def one_by_one(network: Network, given: Faults) -> Labels:
    return again(network, given, 1, ONES)


def batched(network: Network, given: Faults) -> Labels:
    return again(network, given, BATCH, ROUNDS)


def seu_injection(network: Network, given: Faults) -> Labels:
    """It flips bits of float parameters, one evaluation each: the sign bit of `armed` is what flips the state's."""
    with contextlib.redirect_stdout(io.StringIO()):
        from seu_injection.core.base_injector import BaseInjector

    found: list[int] = []
    sequence = iter(range(-1, ONES))

    def criterion(model: Network, x: Tensor, y: Any, device: Any) -> float:
        number = max(next(sequence), 0)
        model.bit = int(given.bit[number])
        found.append(int(model(given.inputs(slice(number, number + 1)))))
        return float(found[-1])

    class Listed(BaseInjector):  # type: ignore[misc, unused-ignore]
        def _get_injection_indices(self, tensor_shape: tuple[int, ...], **kwargs: Any) -> NDArray[np.int64]:
            return np.stack([given.tick[:ONES], given.unit[:ONES]], axis=1)

    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        injector = Listed(network, criterion, device="cpu", x=given.x[:1])
        found.clear()
        clock = Clock()
        with clock:
            injector.run_injector(0, "armed")
    network.bit = None
    return np.array(found), clock.wall, clock.cpu


def pytorchfi_run(network: Network, given: Faults, size: int, count: int) -> Labels:
    """It sets values: those of the fault-free states with the bit flipped, made beforehand and not timed."""
    from pytorchfi import core

    logging.disable(logging.CRITICAL)
    injector = core.fault_injection(network, size, input_shape=[network.w_in.shape[0]], layer_types=[Register])
    found, clock = [], Clock()
    with torch.no_grad():
        for part in batches(size, count):
            x = given.inputs(part)
            values = clean_values(network, given, part, x)
            with clock:
                model = injector.declare_neuron_fi(
                    batch=list(range(size)),
                    layer_num=given.tick[part].tolist(),
                    dim1=given.unit[part].tolist(),
                    dim2=[None] * size,
                    dim3=[None] * size,
                    value=values,
                )
                found.append(model(x))
    injector.fi_reset()
    return torch.cat(found).numpy(), clock.wall, clock.cpu


def clean_values(network: Network, given: Faults, part: slice, x: Tensor) -> list[float]:
    drive = network.drive(x)
    h, rows, values = torch.zeros_like(drive), torch.arange(len(x)), torch.zeros(len(x))
    unit, bit, ticks = (torch.from_numpy(c[part]) for c in (given.unit, given.bit, given.tick))
    for tick in range(network.ticks + 1):
        values = torch.where(ticks == tick, flipped(h[rows, unit], bit), values)
        h = network.tick(h, drive)
    return [float(v) for v in values]


def pytorchfi_one(network: Network, given: Faults) -> Labels:
    return pytorchfi_run(network, given, 1, ONES)


def pytorchfi_batch(network: Network, given: Faults) -> Labels:
    return pytorchfi_run(network, given, BATCH, 2)


def mrfi_run(network: Network, given: Faults, size: int, count: int) -> Labels:
    """Its selectors name positions in a flattened batch, its error mode flips the bit of each."""
    from mrfi import MRFI, EasyConfig

    text = f"""
faultinject:
  - type: activation_out
    enabled: True
    selector:
      method: FixPositions
      positions: []
    error_mode:
      method: IntFixedBitFlip
      bit_width: {BITS}
      bit: []
    module_type: [Register]
"""
    network = copy.deepcopy(network)  # it takes a model once
    model = MRFI(network, EasyConfig.load_string(text))
    ticks = [{"module_fullname": f"registers.{t}", "is_out": True, "strict": True} for t in range(network.ticks + 1)]
    selectors = [model.get_activation_configs("selector.args", **tick) for tick in ticks]
    modes = [model.get_activation_configs("error_mode.args", **tick) for tick in ticks]
    found, clock = [], Clock()
    with torch.no_grad():
        for part in batches(size, count):
            x = given.inputs(part)
            with clock:
                for tick in range(network.ticks + 1):
                    rows = np.flatnonzero(given.tick[part] == tick)
                    selectors[tick].positions = [(rows * len(network.w_rec) + given.unit[part][rows]).tolist()]
                    modes[tick].bit = [given.bit[part][rows].tolist()]
                found.append(model(x))
    return torch.cat(found).numpy(), clock.wall, clock.cpu


def mrfi_one(network: Network, given: Faults) -> Labels:
    return mrfi_run(network, given, 1, ONES)


def mrfi_batch(network: Network, given: Faults) -> Labels:
    return mrfi_run(network, given, BATCH, 2)


warnings.filterwarnings("ignore", category=UserWarning, module="torch")
RUNS: tuple[tuple[str, str, Callable[[Network, Faults], Labels]], ...] = (
    ("PyTorch, the net again for each fault", "", one_by_one),
    ("PyTorch, batches of 1,024 faults", "", batched),
    ("seu-injection-framework, one by one (has no other way)", "seu-injection-framework", seu_injection),
    ("pytorchfi, one by one", "pytorchfi", pytorchfi_one),
    ("pytorchfi, batches of 1,024 faults", "pytorchfi", pytorchfi_batch),
    ("mrfi, one by one", "mrfi", mrfi_one),
    ("mrfi, batches of 1,024 faults", "mrfi", mrfi_batch),
)
