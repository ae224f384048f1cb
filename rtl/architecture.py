"""What the compiler asks of a microarchitecture before any HDL is imported: its options, its refusals, its engine."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, ClassVar, Self

from eqcompile.toolchain.diagnostics import Diagnostic
from eqcompile.toolchain.ir import IntNet
from eqcompile.toolchain.options import option_faults
from eqcompile.toolchain.requirements import Requirements

if TYPE_CHECKING:
    # It imports Amaranth, which a list of options must not wait for.
    from .interface import Engine

__all__ = ["Architecture", "OptionValue"]

OptionValue = str | int | float | bool


@dataclass(frozen=True, kw_only=True)
class Architecture(ABC):
    """The options of an architecture, which registers as entry point of `eqcompile.architectures`.

    `name`: of the entry point. Subclasses are frozen dataclasses whose fields are options with scalar defaults
    (`toolchain.options.option`); the command line of target `rtl` has them, so no name is one of the target's own.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    conformance: ClassVar[tuple[str, ...]] = ("plain",)
    """Nets of tests/conformance that it must take, as shell patterns."""
    emission_s: ClassVar[float] = 16.5
    """Seconds that a megabit of weight memory takes to emit. In Verilog: 347 s were measured for 21 Mbit."""

    @classmethod
    def option_names(cls) -> frozenset[str]:
        """Names of the options."""
        return frozenset(f.name for f in fields(cls))

    @property
    def changed(self) -> dict[str, OptionValue]:
        """Options whose value is not the default, by name."""
        return {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) != f.default}

    @property
    def text(self) -> str:
        """`changed` as the command line has it."""
        return " ".join(f"--{name.replace('_', '-')} {value}" for name, value in self.changed.items())

    @classmethod
    @abstractmethod
    def rank(cls, net: IntNet) -> int:
        """Place among the architectures that are tried for a net, the lowest first."""

    def option_faults(self, parts: Collection[str] = ()) -> Sequence[Diagnostic]:
        """What is wrong with the options, whatever the net, for a core that must run on each of `parts` (names as in
        `eqcompile synth`)."""
        return option_faults(self)

    def resolved(self, net: IntNet, parts: Collection[str]) -> Self:
        """With what the options leave to the net and to the parts: options that make this core again.

        Raises UsageError: an option names a file that says nothing of the net.
        """
        return self

    @property
    def preloaded(self) -> bool:
        """Whether the weights are there after configuration; else a host writes them before the first sample."""
        return True

    @property
    def saboteurs(self) -> bool:
        """Whether the engine can have saboteurs."""
        return self.preloaded

    @property
    def any_device(self) -> bool:
        """Whether the options say that the core is for a device that may be larger than every known part."""
        return False

    @property
    def external(self) -> bool:
        """Whether weights are read from a memory outside of the core."""
        return False

    @property
    def outside(self) -> Architecture | None:
        """The same with weights in a memory outside, for those that no memory of a part holds; None if it has none, or
        the options forbid it."""
        return None

    @property
    def hardened(self) -> bool:
        """Whether the core is protected against upsets."""
        return False

    def preflight(self, needs: Requirements) -> Sequence[Diagnostic]:
        """Why the engine cannot take a net, as far as it is certain before quantization; `refusals` has as many reasons
        at least. By default nothing is."""
        return ()

    def least_memory_bits(self, needs: Requirements) -> int:
        """Of block RAM for the weights, as far as it is certain before quantization."""
        return 0

    def memory_bits(self, net: IntNet) -> int:
        """Of block RAM for the weights of a net without refusals; 0 where weights are logic."""
        return 0

    @abstractmethod
    def refusals(self, net: IntNet) -> Sequence[Diagnostic]:
        """Why the engine cannot take a verified net with these options; empty if it can."""

    def resources(self, net: IntNet) -> Mapping[str, int]:
        """Lower bounds of what the engine needs for a net without refusals, by resource (`lut`, `ff`, `bram`, `spram`,
        `dsp`), as far as they are known before it is built."""
        return {}

    def smaller(self, net: IntNet) -> Iterator[Self]:
        """The same architecture with options that need fewer resources, the next smaller first."""
        yield from ()

    @abstractmethod
    def engine(self, net: IntNet, *, trace: bool, inject: bool = False) -> Engine:
        """The engine, with a trace or with saboteurs if asked for. Raises UnsupportedError with `refusals`."""
