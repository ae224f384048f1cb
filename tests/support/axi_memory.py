"""A memory behind an AXI4 read master in Amaranth's simulator, and the rules of the bus that it watches.

Arm IHI 0022 (AXI4): A3.2.1 (an offer stays as it is until it is taken), A3.4.1 (lengths, bursts within 4 KB), A3.4.3
(RRESP).
"""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field
from typing import Any

__all__ = ["AxiMemory", "Burst"]

PAGE = 4096
INCR = 1
OFFER = ("arid", "araddr", "arlen", "arsize", "arburst", "arcache", "arprot")


@dataclass
class Burst:
    """`beats` are still to be given, from `address` on, not before clock `due`."""

    address: int
    beats: int
    due: int


@dataclass
class AxiMemory:
    """Gives `content`, from address `base` on, through the pins `m_axi_*` of `dut`: each burst `latency` clocks after
    its address was taken, a beat a clock. `stall`: share of clocks in which either channel waits at random. `errors`:
    RRESP by the number of the beat. `broken`: rules that were broken; `bursts`: address and beats of each."""

    dut: Any
    content: bytes
    base: int = 0
    latency: int = 10
    stall: float = 0.0
    errors: dict[int, int] = field(default_factory=dict)
    seed: int = 0
    broken: list[str] = field(default_factory=list)
    bursts: list[tuple[int, int]] = field(default_factory=list)
    beats: int = 0

    async def run(self, ctx: Any) -> None:
        """A process of a bench."""
        pin = {n.removeprefix("m_axi_"): getattr(self.dut, n) for n in self.dut.signature.members if "m_axi_" in n}
        rng, queue, clock = random.Random(self.seed), deque[Burst](), 0
        size = len(pin["rdata"]) // 8
        offer: dict[str, int] | None = None
        offered = False
        while True:
            ready = rng.random() >= self.stall
            ctx.set(pin["arready"], ready)
            # A beat that is offered stays.
            offered = offered or bool(queue and queue[0].due <= clock and rng.random() >= self.stall)
            ctx.set(pin["rvalid"], offered)
            if offered:
                burst = queue[0]
                at = burst.address - self.base
                ctx.set(pin["rdata"], int.from_bytes(self.content[at : at + size], "little"))
                ctx.set(pin["rresp"], self.errors.get(self.beats, 0))
                ctx.set(pin["rlast"], burst.beats == 1)
            else:
                ctx.set(pin["rdata"], rng.getrandbits(8 * size))
                ctx.set(pin["rresp"], rng.randrange(4))
            shown = {name: ctx.get(pin[name]) for name in OFFER} if ctx.get(pin["arvalid"]) else None
            if offer is not None and shown != offer:
                self.broken.append(f"clock {clock}: an offer changes from {offer} to {shown}")
            if shown is not None and ready:
                self._take(shown, size, queue, clock)
            offer = None if ready else shown
            if offered and ctx.get(pin["rready"]):
                offered = False
                self.beats += 1
                burst.address += size
                burst.beats -= 1
                if not burst.beats:
                    queue.popleft()
            await ctx.tick()
            clock += 1

    def _take(self, shown: dict[str, int], size: int, queue: deque[Burst], clock: int) -> None:
        address, beats = shown["araddr"], shown["arlen"] + 1
        end = address + beats * size
        rules = {
            f"the burst at {address} of {beats} beats crosses a page": address // PAGE == (end - 1) // PAGE,
            f"address {address} is none of a beat": address % size == 0,
            "no burst of rising addresses": shown["arburst"] == INCR,
            f"a beat has {1 << shown['arsize']} bytes, the bus {size}": 1 << shown["arsize"] == size,
            f"{address} to {end} are not all weights": self.base <= address and end <= self.base + len(self.content),
        }
        self.broken += [f"clock {clock}: {rule}" for rule, kept in rules.items() if not kept]
        self.bursts.append((address, beats))
        queue.append(Burst(address, beats, clock + self.latency))
