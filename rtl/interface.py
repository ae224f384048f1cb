"""The contract between a relaxation engine and everything around it: bus shell, benches, runners, boards.

An engine is one microarchitecture for one IntNet. It reads the input codes of a sample, in the order of the net's
inputs and C order within each, relaxes, and writes the output codes in the order of the net's outputs. The shell
(`shell.Shell`) puts AXI4-Stream and AXI4-Lite around it; nothing outside knows which engine is inside.

    x ──► engine ──► y          steps, tolerance ──► engine ──► busy, made
                                load (weights)   ──► engine ──► trace
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import ClassVar

from amaranth import Const, Elaboratable, Module, Value, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from eqcompile.toolchain.diagnostics import Diagnostic, UnsupportedError
from eqcompile.toolchain.ir import Format, IntNet, Net
from eqcompile.toolchain.ir.ops import Op
from eqcompile.toolchain.passes import LINEAR, Analysis, tap_count
from eqcompile.toolchain.requirements import Requirements
from eqcompile.toolchain.typed_json import JSON, JsonObject

from .control import restarted
from .harden.mechanisms import FLAGS
from .harden.tmr import merge_control

__all__ = [
    "MAX_SCHEDULE",
    "MEMORY_PAGE",
    "Engine",
    "EngineSignature",
    "Port",
    "memory_pins",
    "port_of",
    "refusals",
    "schedule_refusals",
    "trace_layout",
    "foreseen_refusals",
    "live_taps",
    "too_many_taps",
    "unknown_operations",
]

MAX_SCHEDULE = (1 << 16) - 1
"""What the registers of steps and tolerance hold at most."""

MAX_TAPS = 1 << 18
"""Coefficients that are logic of their own: an addition takes 8 LUTs and more, so that these are more than the two
million LUTs of large FPGAs."""

MASK_BITS = 64
"""Bits of what an injection port does to a word."""

MEMORY_PAGE = 4096
"""Bytes: no AXI burst crosses a multiple of it, and weights in a memory outside begin at one."""


@dataclass(frozen=True)
class Port:
    """A stream of codes: `format` of one code, how many make one sample, and how many one beat carries.

    The first code of a beat stands in its lowest bits. `count` need not be a multiple of `beat`: what the last beat has
    too many is ignored on the way in and zero on the way out.
    """

    format: Format
    count: int
    beat: int = 1

    @property
    def bytes(self) -> int:
        """Bytes of TDATA that one code takes: sign- or zero-extended to 1, 2, 4 or 8 bytes."""
        return next(n for n in (1, 2, 4, 8) if 8 * n >= self.format.bits)

    @property
    def beats(self) -> int:
        """Beats of one sample."""
        return -(-self.count // self.beat)

    @property
    def tdata_bits(self) -> int:
        """Bits of TDATA: every code of a beat in bytes of its own."""
        return 8 * self.bytes * self.beat


def port_of(net: IntNet, values: Sequence[tuple[str, int]], beat: int = 1) -> Port:
    """The port that carries `values`, `(name, entries)` each: one format that holds them all."""
    tokens = {i.name: Format.holding(*i.limits) for i in net.inputs if i.kind == "index"}
    formats = [tokens.get(name) or net.formats[name] for name, _ in values]
    joined = Format.holding(min(f.lo for f in formats), max(f.hi for f in formats))
    return Port(joined, sum(count for _, count in values), beat)


def trace_layout(states: Sequence[tuple[str, int, Format]]) -> data.StructLayout:
    """All codes of all states side by side, one field a state: `(name, units, format)` each."""
    return data.StructLayout(
        {name: data.ArrayLayout(unsigned(f.bits), units) for name, units, f in states}  # codes as bit patterns
    )


def memory_pins(bits: int) -> dict[str, In | Out]:
    """Signals of an AXI4 read master with `bits` bits of data and 32 of an address, by name without a prefix."""
    address = {"arid": 1, "araddr": 32, "arlen": 8, "arsize": 3, "arburst": 2, "arcache": 4, "arprot": 3, "arvalid": 1}
    answer = {"rid": 1, "rdata": bits, "rresp": 2, "rlast": 1, "rvalid": 1}
    pins: dict[str, In | Out] = {name: Out(width) for name, width in address.items()}
    return pins | {"arready": In(1), "rready": Out(1)} | {name: In(width) for name, width in answer.items()}


class EngineSignature(wiring.Signature):
    """Ports of an engine.

    `x`, `y`: streams of codes (ready/valid), `Port.beat` codes of `Port.format.bits` bits each side by side, the first
    one lowest. `steps` (at least 1) and `tolerance` are sampled with the first beat of a sample. `busy`: from the first
    beat of a sample until its last result was taken. `made`: ticks made for the result at `y`, stable while it is read.
    `restart`: drop everything, as after reset, weights excepted. `load_*`: store weight word `load_address` (32-bit
    words, layout by the engine); absent where weights are constant. `frames` (at least 1, sampled as `steps` is), for
    nets that take a sequence: `x` carries the codes of frame after frame, and `y` a result for each if the net emits
    every one.

    `image_*` exist with `image`: what is loaded is an image, its words in their order from address 0 on.
    `image_status`, `image_crc`: as the registers of the bus shell say. In a clock with `image_begins` an image is
    there, whose schedule is `image_steps` and `image_tolerance`.

    `read_*` exist with `readback`: while `read_memory` is not 0 the engine stands still, as in a restart, and two
    clocks after each of its inputs `read_data` is 32 bits of a word of that memory (`read_part`, `read_address`).

    `m_axi_*` exist with `memory_bits`: an AXI4 read master (`memory_pins`) for weights in a memory outside, which begin
    at page `weights_base`. `weights_crc`: CRC-32 of those that the image is for. `memory_failed`: RRESP of a beat that
    was an error, 0 while there is none; the engine then stands still until `restart`.

    `trace_*` exist if `traced`: in a clock with `trace_end`, `trace_codes` holds every state after the tick that ends,
    which belongs to frame number `trace_frame` where there are frames.

    `inject_*` exist with `inject`, for benches: while `inject_enable`, a sample makes all `steps` ticks. A clock with
    `inject_arm`, between two samples, says what becomes of element `inject_unit` of word `inject_word` (numbers by the
    engine) in tick `inject_tick` (0 to `steps`, which is the readout) from then on: `(((word ^ inject_flip) |
    inject_one) & ~inject_zero) + inject_add`, at first nothing. A sum saturates in a state, and wraps elsewhere; what
    is added has a bit more than the word. The trace shows what ticks latched, before an upset of a state. With
    `inject_event` linear maps that add up changes are told of an upset of a state, without they add as if there were
    none; others do not read it. With `harden`, a word whose check a disturbance would pass by has a second number, in
    front of the check.

    `harden_*` exist with `harden`, for the bus shell: `harden_idle`: the next beat begins a sample; `harden_tick`: a
    tick is made; `harden_faults`, a bit for each of `harden.mechanisms.FLAGS`: the run cannot be trusted;
    `harden_noticed`: the same of words that nothing has read; `harden_corrected`: a stored word was repaired.
    """

    def __init__(
        self,
        x: Port,
        y: Port,
        *,
        traced: bool,
        states: Sequence[tuple[str, int, Format]],
        load_bits: int = 0,
        inject: bool = False,
        harden: bool = False,
        frames: bool = False,
        image: bool = False,
        readback: bool = False,
        memory_bits: int = 0,
    ) -> None:
        self.x_port, self.y_port, self.traced, self.states = x, y, traced, tuple(states)
        self.frames, self.image, self.readback, self.memory_bits = frames, image, readback, memory_bits
        members: dict[str, In | Out] = {
            "x": In(stream.Signature(unsigned(x.format.bits * x.beat))),
            "y": Out(stream.Signature(unsigned(y.format.bits * y.beat))),
            "steps": In(16),
            "tolerance": In(16),
            "restart": In(1),
            "busy": Out(1),
            "made": Out(16),
        }
        if frames:
            members |= {"frames": In(16)}
        if load_bits:
            members |= {"load_address": In(load_bits), "load_data": In(32), "load_enable": In(1)}
        if image:
            members |= {"image_status": Out(16), "image_crc": Out(32), "image_begins": Out(1)}
            members |= {"image_steps": Out(16), "image_tolerance": Out(16)}
        if readback:
            members |= {"read_memory": In(8), "read_part": In(16), "read_address": In(32), "read_data": Out(32)}
        if memory_bits:
            members |= {"weights_base": In(20), "weights_crc": Out(32), "memory_failed": Out(2)}
            members |= {f"m_axi_{name}": pin for name, pin in memory_pins(memory_bits).items()}
        if inject:
            members |= {"inject_enable": In(1), "inject_event": In(1), "inject_arm": In(1)}
            members |= {"inject_word": In(16), "inject_unit": In(16), "inject_tick": In(16)}
            members |= {f"inject_{mask}": In(MASK_BITS) for mask in ("flip", "one", "zero", "add")}
        if harden:
            members |= {"harden_idle": Out(1), "harden_tick": Out(1), "harden_corrected": Out(1)}
            members |= {"harden_faults": Out(len(FLAGS)), "harden_noticed": Out(len(FLAGS))}
        if traced:
            members |= {"trace_codes": Out(trace_layout(states)), "trace_end": Out(1)}
            members |= {"trace_frame": Out(16)} if frames else {}
        super().__init__(members)


def unknown_operations(
    net: IntNet, known: Sequence[type[Op]], architecture: str, otherwise: str = ""
) -> Iterator[Diagnostic]:
    """A refusal for each operation of a net that an architecture does not have; `otherwise`: what to do then."""
    hint = "; ".join(filter(None, (f"it takes {', '.join(sorted(op.mnemonic for op in known))}", otherwise)))
    for op in net.all_ops():
        if not isinstance(op, tuple(known)):
            yield _unknown(type(op), op.out, architecture, hint)


def _unknown(kind: type[Op], name: str, architecture: str, hint: str) -> Diagnostic:
    return Diagnostic("rtl-operation", f"{kind.mnemonic} is no operation of the {architecture} engine", name, hint)


def foreseen_refusals(
    needs: Requirements,
    known: Sequence[type[Op]],
    architecture: str,
    refused: Callable[[Net], Iterator[Diagnostic]] | None = None,
) -> Iterator[Diagnostic]:
    """As `refused` (`refusals` without it) and `unknown_operations`, as far as they are certain before
    quantization."""
    net = replace(needs.net, schedule=replace(needs.net.schedule, tolerance=needs.tolerance))
    yield from (refused or refusals)(net)
    hint = f"it takes {', '.join(sorted(op.mnemonic for op in known))}"
    for _, name, kind in needs.operations():
        if not issubclass(kind, tuple(known)):
            yield _unknown(kind, name, architecture, hint)


def live_taps(net: IntNet, besides: type[Op] | None = None) -> int:
    """Coefficients that are not zero, of all linear maps that matter `besides` those of a class."""
    maps = (op for _, op in Analysis.of(net).live_ops if isinstance(op, LINEAR) and type(op) is not besides)
    return sum(tap_count(net, op) for op in maps)


def too_many_taps(taps: int, where: str, architecture: str) -> Iterator[Diagnostic]:
    """A refusal if logic for each coefficient is more than any device has."""
    if taps > MAX_TAPS:
        what = (
            f"the weights are {taps} coefficients that are not 0, the {architecture} engine makes logic of {MAX_TAPS}"
        )
        yield Diagnostic("rtl-capacity", what, where, "use --arch serial, or fewer weights")


def refusals(net: Net) -> Iterator[Diagnostic]:
    """Why no engine of one circuit for a net can run it; nothing if one may."""
    for i in net.inputs:
        if i.kind == "index":
            what = f"input {i.name} is a token; a circuit of one net reads numbers"
            yield Diagnostic("rtl-index", what, i.name, "use --arch processor")
    if net.schedule.frames:
        what = "the net takes a sequence of frames, a circuit of one net starts every sample anew"
        yield Diagnostic("rtl-frames", what, net.name, "use --arch processor")
    yield from schedule_refusals(net)


def schedule_refusals(net: Net) -> Iterator[Diagnostic]:
    """What the registers of a core cannot hold."""
    for name, value in (("steps", net.schedule.steps), ("tolerance", net.schedule.tolerance)):
        if value > MAX_SCHEDULE:
            yield Diagnostic("rtl-schedule", f"{value} {name}, a register holds {MAX_SCHEDULE}", net.name)


class Engine(wiring.Component):
    """One microarchitecture for one net: what the bus shell, benches, campaigns and boards may rely on.

    `architecture`: its name. `signature`: its ports. `inject_words`: each word that has a saboteur, as `PLACE:NAME`,
    and what `inject_word` calls it; empty without `inject`. `voted`: control registers have three copies.
    `harden`: mechanisms of hardening (`harden.mechanisms`); `protect`: units of each state that are in three copies.
    `watched_span`: upper bound on clocks between two signs of life, for the watchdog; None without one.
    `accumulators`: linear maps whose sums are kept over ticks and changed by what changes.

    An engine says what it refuses before it is built, and describes itself once it is. Its logic is made by `build`.
    """

    architecture: ClassVar[str]
    signature: EngineSignature
    inject_words: Mapping[str, int] = {}
    voted: bool = False
    harden: tuple[str, ...] = ()
    protect: Mapping[str, Collection[int]] = {}
    watched_span: int | None = None
    accumulators: tuple[str, ...] = ()

    def __init__(
        self,
        net: IntNet,
        *,
        beat: int = 1,
        result_beat: int = 1,
        trace: bool,
        inject: bool,
        load_bits: int = 0,
        harden: bool = False,
        image: bool = False,
        readback: bool = False,
        frames: bool = False,
        memory_bits: int = 0,
        formats: tuple[Format, Format] | None = None,
    ) -> None:
        """The ports of an engine for `net`. `formats`: of codes that enter and leave, wider than the net's own.
        `frames`: it takes sequences, whether the net does or not. `memory_bits`: of a beat of the memory outside."""
        self.net = net
        sizes = Analysis.of(net).sizes
        inputs = [(i.name, prod(i.shape)) for i in net.inputs]
        outputs = [(o.value, sizes[o.value]) for o in net.outputs]
        x = port_of(net, inputs, min(beat, sum(count for _, count in inputs)))
        y = port_of(net, outputs, min(result_beat, sum(count for _, count in outputs)))
        if formats is not None:
            x, y = replace(x, format=formats[0]), replace(y, format=formats[1])
        super().__init__(
            EngineSignature(
                x,
                y,
                traced=trace,
                states=[(s.name, prod(s.shape), net.formats[s.name]) for s in net.states],
                load_bits=load_bits,
                inject=inject,
                harden=harden,
                frames=frames or net.schedule.frames,
                image=image,
                readback=readback,
                memory_bits=memory_bits,
            )
        )

    @property
    def lasts(self) -> tuple[Value, Value]:
        """Numbers of the last beat of a sample, and of a result."""
        x, y = self.signature.x_port.beats, self.signature.y_port.beats
        return Const(x - 1, range(x)), Const(y - 1, range(y))

    def refuse(self, faults: Sequence[Diagnostic]) -> None:
        """Raise UnsupportedError if there are faults; to be called before anything is built."""
        if faults:
            # Amaranth warns of components that are never elaborated; this one will not be.
            self._MustUse__used = True
            raise UnsupportedError(faults)

    @abstractmethod
    def build(self) -> Module:
        """The engine's logic, which drives its ports; `restart` is left to `elaborate`."""

    @property
    def configuration(self) -> JsonObject | None:
        """What core.json says for those who compile other nets for this core; None if it runs its own alone."""
        return None

    @property
    def memory_map(self) -> JsonObject | None:
        """What core.json says for those who read memories back, once the engine is built; None if nobody can."""
        return None

    @property
    def listing(self) -> str | None:
        """The program that the engine runs, as text; None if it runs none."""
        return None

    @abstractmethod
    def describe(self) -> dict[str, JSON]:
        """Figures of the engine, `arch` the first."""

    def memory_bytes(self, net: IntNet) -> bytes:
        """What the memory outside holds for `net`; empty for an engine without one."""
        return b""

    def load_words(self, net: IntNet) -> list[int]:
        """The 32-bit words of all weights in the order of `load_address` from 0.

        Raises UnsupportedError if `net` differs from the engine's in more than its weights, or needs more room, or the
        weights are constants.
        """
        what = f"the weights of a core of the architecture {self.architecture} are constants"
        raise UnsupportedError(Diagnostic("rtl-weights", what, net.name, "build a core from this net"))

    def elaborate(self, platform: object) -> Elaboratable:
        return merge_control(restarted(self.build(), self.restart), voted=self.voted)

    def show(self, m: Module, name: str, codes: Iterable[Value]) -> None:
        """Connect the trace of a state to registers that hold its codes when `trace_end` is set."""
        fields = getattr(self.trace_codes, name)
        m.d.comb += [fields[i].eq(code) for i, code in enumerate(codes)]
