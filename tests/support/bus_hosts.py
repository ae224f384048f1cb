"""What a host does on the AXI4-Lite of a core in Amaranth's simulator."""

from __future__ import annotations

from typing import Any

from eqcompile.rtl.shell import Shell

__all__ = ["read", "write"]


async def write(context: Any, dut: Shell, address: int, value: int, strobes: int = 0xF) -> int:
    """The response to one write; address and data are held until they are taken, as AXI demands."""
    for signal, code in (
        (dut.s_axil_awaddr, address),
        (dut.s_axil_wdata, value),
        (dut.s_axil_wstrb, strobes),
        (dut.s_axil_awvalid, 1),
        (dut.s_axil_wvalid, 1),
        (dut.s_axil_bready, 1),
    ):
        context.set(signal, code)
    while not context.get(dut.s_axil_awready):
        await context.tick()
    await context.tick()
    context.set(dut.s_axil_awvalid, 0)
    context.set(dut.s_axil_wvalid, 0)
    assert context.get(dut.s_axil_bvalid)
    response = int(context.get(dut.s_axil_bresp))
    await context.tick()
    return response


async def read(context: Any, dut: Shell, address: int) -> tuple[int, int]:
    """Data and response of one read."""
    context.set(dut.s_axil_araddr, address)
    context.set(dut.s_axil_arvalid, 1)
    context.set(dut.s_axil_rready, 1)
    while not context.get(dut.s_axil_arready):
        await context.tick()
    await context.tick()
    context.set(dut.s_axil_arvalid, 0)
    answer = int(context.get(dut.s_axil_rdata)), int(context.get(dut.s_axil_rresp))
    await context.tick()
    return answer
