"""The one memory wrapper: inferred block RAM, or the primitive of a family that cannot be inferred.

    write_*  ──►  words  ──►  read_data, one clock after read_address

Reading the word that is being written gives no defined data (so that block RAM needs no logic around it), nor does any
read in a clock that writes if `single_port` (the UP5K's SPRAM has one address).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from amaranth import Array, Cat, ClockSignal, Const, Elaboratable, Instance, Module, Mux, Signal, Value, unsigned
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

__all__ = ["FAMILIES", "SPRAM_MODEL", "SPRAM_WORDS", "ContentFiles", "Family", "Ram", "spram_blocks"]

Family = Literal["generic", "up5k"]
FAMILIES: tuple[Family, ...] = ("generic", "up5k")
SPRAM_WORDS = 1 << 14
"""Words of 16 bits in one SB_SPRAM256KA."""

SHALLOW = 32
"""Up to this depth the tools may choose distributed RAM."""

SPRAM_MODEL = """\
// Simulation model of the iCE40 UltraPlus single-port RAM, for simulators without the vendor's library.
module SB_SPRAM256KA(
  input [13:0] ADDRESS, input [15:0] DATAIN, input [3:0] MASKWREN, input WREN, input CHIPSELECT, input CLOCK,
  input STANDBY, input SLEEP, input POWEROFF, output reg [15:0] DATAOUT);
  reg [15:0] words [0:16383];
  integer i;
  initial begin DATAOUT = 16'd0; for (i = 0; i < 16384; i = i + 1) words[i] = 16'd0; end
  always @(posedge CLOCK) if (CHIPSELECT) begin
    if (WREN) words[ADDRESS] <= DATAIN; else DATAOUT <= words[ADDRESS];
  end
endmodule
"""
"""Verilog for benches. It writes whole words, as `Ram` does, and has no power modes."""


def spram_blocks(width: int, depth: int) -> int:
    """Blocks of SPRAM for this many words of `width` bits."""
    return -(-width // 16) * -(-depth // SPRAM_WORDS)


class ContentFiles:
    """A platform, as Amaranth calls what a design is elaborated for, that keeps the contents of memories with a name in
    files for `$readmemh`: their text, by name, in `texts`."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}

    def add(self, ram: Ram, depth: int) -> str:
        """Write the words of a memory of `depth` words; the name of the file. Raises ValueError: another memory has
        that name and other words."""
        digits, file = -(-ram.width // 4), f"{ram.file}.hex"
        words = [*ram.init, *[0] * (depth - len(ram.init))]
        text = "".join(f"{word:0{digits}x}\n" for word in words)
        if self.texts.setdefault(file, text) != text:
            raise ValueError(f"two memories with different words go to the file {file}")
        return file


class Ram(wiring.Component):
    """`depth` words of `width` bits, one write and one read port, read latency 1 clock.

    `init` gives the first words (the rest is 0); it must be empty for `family="up5k"`, whose RAM powers up undefined.
    `file`: the name of the file without its ending, where `ContentFiles` keeps them; without one they stand in the
    Verilog.
    `wipes` adds the port
    `read_zero`, which makes the data of that read 0; `holds` adds `read_enable`, without which the data read before
    stay. `parts`: of a word, side by side, with a bit of `write_enable` each. Once elaborated, `words` is the
    memory, for benches.
    """

    def __init__(
        self,
        *,
        width: int,
        depth: int,
        init: Sequence[int] = (),
        family: Family = "generic",
        wipes: bool = False,
        file: str = "",
        holds: bool = False,
        parts: int = 1,
    ) -> None:
        if family == "up5k" and len(init):
            raise ValueError(f"a RAM of {depth} words is given {len(init)} initial words; SPRAM takes 0")
        if family == "up5k" and wipes:
            raise ValueError("an SPRAM has no reset of its output")
        if holds and (family == "up5k" or wipes):
            raise ValueError("a RAM that holds its output is inferred, and wipes nothing")
        self.width, self.depth, self.init, self.family = width, depth, tuple(init), family
        self.single_port = family == "up5k"
        self.wipes, self.holds, self.file, self.parts = wipes, holds, file, parts
        self.address_bits = max((depth - 1).bit_length(), 1)
        members: dict[str, In | Out] = {
            "read_address": In(self.address_bits),
            "read_data": Out(width),
            "write_address": In(self.address_bits),
            "write_data": In(width),
            "write_enable": In(parts),
        }
        members |= {"read_zero": In(1)} if wipes else {}
        super().__init__(members | ({"read_enable": In(1)} if holds else {}))

    def elaborate(self, platform: object) -> Module:
        m = Module()
        if self.family == "up5k":
            self._spram(m)
            return m
        attrs = {"no_rw_check": 1} | ({"ram_style": "block"} if self.depth > SHALLOW else {})
        depth, init = self.depth, self.init
        if self.file and isinstance(platform, ContentFiles):
            # As deep as the address reaches, as `verilog.memories` makes all: the file has a word for each.
            depth, init = 1 << self.address_bits, ()
            attrs |= {"contents": platform.add(self, depth)}
        words = Memory(shape=unsigned(self.width), depth=depth, init=init, attrs=attrs)
        if isinstance(platform, ContentFiles) and not any(init):
            # Amaranth spells out every bit that a memory starts with, which takes minutes where it is wide and deep.
            # One word stands for all the others that are 0: `verilog.memories` adds them.
            words.data.init._raw = [0]
        m.submodules.words = self.words = words
        read = words.read_port(domain="comb" if self.wipes else "sync")
        write = words.write_port(granularity=self.width // self.parts if self.parts > 1 else None)
        m.d.comb += [
            read.addr.eq(self.read_address),
            write.addr.eq(self.write_address),
            write.data.eq(self.write_data),
            write.en.eq(self.write_enable),
        ]
        if self.wipes:
            # A register with a reset behind an asynchronous read is what tools recognise as a RAM's resettable output.
            m.d.sync += self.read_data.eq(Mux(self.read_zero, 0, read.data))
        else:
            m.d.comb += self.read_data.eq(read.data)
        if self.holds:
            m.d.comb += read.en.eq(self.read_enable)
        return m

    def _spram(self, m: Module) -> None:
        """Blocks side by side for the width; rows of them for the depth, one of which answers."""
        address, row = Signal(self.address_bits), Signal(range(max(-(-self.depth // SPRAM_WORDS), 2)))
        m.d.comb += address.eq(Mux(self.write_enable, self.write_address, self.read_address))
        m.d.sync += row.eq(address[14:])
        rows = []
        for r in range(-(-self.depth // SPRAM_WORDS)):
            blocks = []
            here = self.write_enable & (address[14:] == r) if self.depth > SPRAM_WORDS else self.write_enable
            for i in range(-(-self.width // 16)):
                data, out = Signal(16, name=f"data_{r}_{i}"), Signal(16, name=f"out_{r}_{i}")
                m.d.comb += data.eq(self.write_data[16 * i : 16 * i + 16])
                m.submodules[f"spram_{r}_{i}"] = self._block(address[:14], data, here, out)
                blocks.append(out)
            rows.append(Cat(*blocks))
        m.d.comb += self.read_data.eq(rows[0] if len(rows) == 1 else Array(rows)[row])

    def _block(self, address: Value, data: Value, write: Value, out: Signal) -> Elaboratable:
        return Instance(
            "SB_SPRAM256KA",
            i_ADDRESS=address,
            i_DATAIN=data,
            i_MASKWREN=Const(0xF, 4),
            i_WREN=write,
            i_CHIPSELECT=Const(1, 1),
            i_CLOCK=ClockSignal(),
            i_STANDBY=Const(0, 1),
            i_SLEEP=Const(0, 1),
            i_POWEROFF=Const(1, 1),  # active low
            o_DATAOUT=out,
        )
