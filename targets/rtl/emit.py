"""The emitted folder: core, bench, vectors, Makefile, README."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from eqcompile.rtl.architecture import Architecture
from eqcompile.rtl.harden.mechanisms import FLAGS, MECHANISMS
from eqcompile.toolchain.artifact import tool_versions, write_arrays, write_json
from eqcompile.toolchain.interfaces import Emission, Progress, Vectors, quiet
from eqcompile.toolchain.ir import Input, IntNet
from eqcompile.toolchain.passes import Analysis, output_keys
from eqcompile.toolchain.typed_json import JSON, JsonObject, encode

from .ip.write import write_ip
from .registers import c_header, readme_table, register_rows
from .templates import fill, text
from .vectors import expected

if TYPE_CHECKING:
    # They import Amaranth, which a list of targets must not wait for.
    from amaranth import Value

    from eqcompile.rtl.interface import Engine, Port
    from eqcompile.rtl.shell import Shell
    from eqcompile.rtl.verilog.emit import Design

__all__ = ["THINNED", "TOLERANT", "TOP", "parts_of", "saboteur_sites", "shell_of", "write_folder"]

TOP = "core"
"""Name of the top module."""

THINNED, TOLERANT = "thinned", "tolerant"
"""Variants of the net that the bench runs: with other weights in the same core, with another tolerance."""

BENCH = ("layout.py", "driver.py", "test_core.py", "tools.py", "run.py", "native.py", "deposits.py")
TRACED = "bench/traced.v"
INJECTED = "bench/injected.v"
"""The core with a trace and saboteurs."""
MEMORY = "weights.bin"
SPRAM = "bench/sb_spram256ka.v"


def parts_of(*, trace: bool, saboteurs: bool) -> int:
    """How many parts `write_folder` tells its progress of: two for each core that it writes."""
    return 2 * (1 + (not trace) + saboteurs)


@dataclass
class _Steps:
    """Counts what is done of `total`."""

    progress: Progress
    total: int
    done: int = 0

    def advance(self) -> None:
        self.done += 1
        self.progress(self.done, self.total)


def shell_of(net: IntNet, architecture: Architecture, *, trace: bool, inject: bool = False) -> Shell:
    """The core as an Amaranth component: the engine behind its buses."""
    from eqcompile.rtl.shell import Shell

    return Shell(architecture.engine(net, trace=trace, inject=inject), schedule=net.schedule)


def write_folder(
    net: IntNet,
    architecture: Architecture,
    shell: Shell,
    folder: Path,
    vectors: Vectors,
    *,
    trace: bool,
    saboteurs: bool = False,
    clock_mhz: float | None = None,
    progress: Progress = quiet,
) -> Emission:
    """Write the folder. `shell`: the core with a trace; `vectors`: golden's, also of the variants that the bench runs;
    `clock_mhz`: the frequency of the constraints.

    Without `trace` the core has no trace port; the bench then runs a second one that differs in nothing else. Vendor
    primitives of the core have a model beside the bench. `saboteurs` adds a third one, with a trace and an injection
    port. `progress`: each Verilog file is elaborated, which takes most of the time, and then written.
    """
    steps = _Steps(progress, parts_of(trace=trace, saboteurs=saboteurs))
    bench, data = folder / "bench", folder / "vectors"
    bench.mkdir()
    data.mkdir()
    delivered = shell if trace else shell_of(net, architecture, trace=False)
    if not trace:
        _write_verilog(net, architecture, shell, folder, TRACED, steps)
    needs = _write_verilog(net, architecture, delivered, folder, "core.v", steps)
    details = {**shell.engine.describe(), **needs}
    words = shell.engine.load_words(net) if shell.loads else None
    if not architecture.preloaded:
        (folder / SPRAM).write_text(_spram_model(), encoding="utf-8")
    layout = _layout(net, shell, "core.v" if trace else TRACED)
    layout |= {"models": [] if architecture.preloaded else [SPRAM], "load_words": words is not None}
    layout |= {"configuration": shell.engine.configuration}
    layout |= {"readback": shell.engine.memory_map}
    layout |= _write_memory(net, shell, folder)
    layout |= {"sequence": net.schedule.emit if net.schedule.frames else None}
    contents = sorted(path.name for path in folder.glob("*.hex"))
    layout |= {"contents": contents}
    layout |= {"inject": _write_saboteurs(net, architecture, folder, steps) if saboteurs else None}
    write_json(folder / "core.json", layout | {"preloaded": architecture.preloaded})
    for name in BENCH:
        (bench / name).write_text(text(name), encoding="utf-8")
    (bench / "native.cpp").write_text(text("native.cpp.tmpl"), encoding="utf-8")
    write_arrays(data / "vectors.npz", expected(net, vectors.inputs, vectors.run).items())
    ending, run = vectors.variants[TOLERANT]
    tolerance = {"tolerance": np.array(ending.schedule.tolerance)}
    write_arrays(data / "tolerant.npz", {**expected(net, vectors.inputs, run), **tolerance}.items())
    if words is not None:
        other, run = vectors.variants[THINNED]
        write_arrays(folder / "weights.npz", [("words", np.array(words, np.int64))])
        loaded = {"words": np.array(shell.engine.load_words(other), np.int64)}
        if "memory" in layout:
            loaded["memory"] = np.frombuffer(shell.engine.memory_bytes(other), np.uint8).astype(np.int64)
        write_arrays(data / "reloaded.npz", {**expected(net, vectors.inputs, run), **loaded}.items())
    if shell.engine.listing is not None:
        (folder / "program.lst").write_text(shell.engine.listing, encoding="utf-8")
    driver = folder / "driver"
    driver.mkdir()
    (driver / "linux.py").write_text(text("linux.py"), encoding="utf-8")
    header = c_header(register_rows(shell), _constants(shell, words), f"net {net.name}, digest {net.digest[:12]}")
    (driver / "core_registers.h").write_text(header, encoding="utf-8")
    if architecture.preloaded:
        write_ip(net, architecture.name, delivered, folder / "ip", top=TOP, contents=contents, clock_mhz=clock_mhz)
    (folder / "Makefile").write_text(text("Makefile.tmpl"), encoding="utf-8")
    (folder / "README.md").write_text(_readme(net, architecture, shell, details, words), encoding="utf-8")
    figures: dict[str, JSON] = {
        "arch": architecture.name,
        "engine": details,
        "trace": trace,
        "weight_words": 0 if words is None else len(words),
        "tools": tool_versions("amaranth"),
    }
    return Emission(figures, (f"architecture {architecture.name}: {_line(details)}",))


def _write_memory(net: IntNet, shell: Shell, folder: Path) -> dict[str, JSON]:
    """Write what a memory outside must hold; what core.json says of it, nothing for a core without one."""
    bits = shell.engine.signature.memory_bits
    if not bits:
        return {}
    held = shell.engine.memory_bytes(net)
    (folder / MEMORY).write_bytes(held)
    return {"memory": {"file": MEMORY, "bits": bits, "bytes": len(held), "crc": zlib.crc32(held)}}


def _write_saboteurs(net: IntNet, architecture: Architecture, folder: Path, steps: _Steps) -> JsonObject:
    """The core with saboteurs. What core.json says of them: the words of the net that have one; where the weight memory
    holds what (for each linear map the first row of its table; with a code on its words the number of the site of each
    part's memory), or that weights are constants of the core or, as `image` says, words of an image (None); every
    register and memory; what the bits of FAULTS say, and the clocks after which the watchdog ends a run that shows no
    sign of life."""
    from eqcompile.rtl.harden.watchdog import DELAY
    from eqcompile.rtl.upsets import sabotage

    shell = shell_of(net, architecture, trace=True, inject=True)
    sabotaged = sabotage(shell)
    _write_verilog(net, architecture, sabotaged.fragment, folder, INJECTED, steps, ports=sabotaged.ports)
    span, image = shell.engine.watched_span, shell.engine.signature.image
    sites = [encode(site) for site in sabotaged.sites]
    numbers = {site.name: number for number, site in enumerate(sabotaged.sites)}
    return {
        "verilog": INJECTED,
        "words": shell.engine.inject_words,
        "weights": _weight_memory(net, shell.engine, folder, numbers) if shell.loads and not image else None,
        "image": image,
        "sites": sites,
        "flags": list(FLAGS) if shell.guard is not None else [],
        "span": None if span is None else span + DELAY,
    }


def _weight_memory(net: IntNet, engine: Engine, folder: Path, sites: Mapping[str, int]) -> JsonObject:
    """As `Memory` reads it; writes the words that it starts with. `sites`: numbers by name."""
    weights = engine.plan.weights
    numbers = {"lanes": weights.lanes, "code_bits": weights.code_bits, "depth": weights.depth, "parts": weights.parts}
    numbers |= {"address_bits": weights.address_bits, "capacity": weights.capacity}
    words = np.zeros(weights.load_words, np.int64)
    stored = engine.load_words(net)
    words[: len(stored)] = stored
    write_arrays(folder / "bench" / "injected.npz", [("words", words)])
    rows = {m.out: row for m, row in zip(engine.plan.maps, weights.rows, strict=True)}
    parts = (f"engine.entries_{part}.ram.words" for part in range(weights.parts))
    return {**numbers, "rows": rows, "coded": [sites[name] for name in parts if name in sites]}


def saboteur_sites(net: IntNet, architecture: Architecture) -> list[dict[str, JSON]]:
    """Registers and memories of the core with saboteurs, as core.json lists them."""
    from eqcompile.rtl.upsets import sabotage

    return [encode(site) for site in sabotage(shell_of(net, architecture, trace=True, inject=True)).sites]


def _constants(shell: Shell, words: Sequence[int] | None) -> dict[str, int]:
    """Numbers of the core that a driver needs."""
    from eqcompile.rtl.registers import ID

    x, y = shell.x_port, shell.y_port
    return {
        "ID_VALUE": ID,
        "INPUT_CODES": x.count,
        "INPUT_CODE_BYTES": x.bytes,
        "OUTPUT_CODES": y.count,
        "OUTPUT_CODE_BYTES": y.bytes,
        "WEIGHT_WORDS": 0 if words is None else len(words),
    }


def _spram_model() -> str:
    from eqcompile.rtl.memory import SPRAM_MODEL

    return SPRAM_MODEL


def _write_verilog(
    net: IntNet,
    architecture: Architecture,
    design: Design,
    folder: Path,
    name: str,
    steps: _Steps,
    *,
    ports: Sequence[Value] | None = None,
) -> JsonObject:
    """Write `folder / name`, and the contents of memories beside the core; return what the core needs of a device's
    memories and primitives, for the manifest."""
    from eqcompile.rtl.harden.tmr import kept_apart
    from eqcompile.rtl.memory import ContentFiles
    from eqcompile.rtl.verilog import convert

    header, contents = _header(net, architecture), ContentFiles()
    verilog = convert(design, name=TOP, ports=ports, header=header, elaborated=steps.advance, platform=contents)
    (folder / name).write_text(kept_apart(verilog.text), encoding="utf-8")
    for file, words in contents.texts.items():
        (folder / file).write_text(words, encoding="utf-8")
    steps.advance()
    return {"memories": [encode(memory) for memory in verilog.memories], "primitives": verilog.primitives}


def _header(net: IntNet, architecture: Architecture) -> str:
    """What stands above the Verilog: of what it is the core, made by what, and how to make it again."""
    tools = ", ".join(f"{name} {version}" for name, version in tool_versions("amaranth").items())
    return (
        f"Relaxation core of the net {net.name!r}, architecture {architecture.name}.\n"
        f"IR digest {net.digest}\n"
        f"Generated by {tools}; do not edit. To generate it again:\n"
        f"  eqcompile net.onnx --target rtl --arch {architecture.name} {architecture.text}".rstrip()
        + "\n"
        "Right as Verilog-2005 and as SystemVerilog-2017. One clock, synchronous reset `rst`."
    )


def _port(port: Port) -> JsonObject:
    fmt = port.format
    return {"bits": fmt.bits, "signed": fmt.signed, "count": port.count, "bytes": port.bytes, "beat": port.beat}


def _layout(net: IntNet, shell: Shell, traced: str) -> dict[str, JSON]:
    """core.json: what the bench knows about the core, its memories left out."""
    from eqcompile.rtl.registers import ID

    signature = shell.engine.signature
    shapes = {s.name: list(s.shape) for s in net.states}
    states: list[JsonObject] = [
        {"name": name, "shape": shapes[name], "units": units, "bits": fmt.bits, "signed": fmt.signed}
        for name, units, fmt in signature.states
    ]
    types = Analysis.of(net).types
    return {
        "name": net.name,
        "digest": net.digest,
        "verilog": traced,
        "trace": signature.traced,
        "id": ID,
        "registers": {row.name: row.address for row in register_rows(shell)},
        "steps": net.schedule.steps,
        "tolerance": net.schedule.tolerance,
        "x": _port(shell.x_port),
        "y": _port(shell.y_port),
        "inputs": [
            {"name": i.name, "shape": list(i.shape), **dict(zip(("lo", "hi"), i.limits, strict=True))}
            for i in net.inputs
        ],
        "outputs": [{"name": output_keys(net)[o.name], "shape": list(types[o.value].shape)} for o in net.outputs],
        "states": states,
    }


def _line(details: JsonObject) -> str:
    shown = {k: v for k, v in details.items() if isinstance(v, (int, str)) and k != "arch"}
    return ", ".join(f"{k} {v}" for k, v in shown.items()) or "no figures"


def _loads(architecture: Architecture, words: Sequence[int] | None, *, image: bool) -> str:
    if words is None:
        return "The weights are constants of the core."
    if image:
        return (
            f"The core starts with the image of this net (`weights.npz`, {len(words)} words of 32 bits) and takes\n"
            "others while it is idle: write 0 to LOAD_ADDRESS, then LOAD_DATA once a word. `eqcompile MODEL --target\n"
            "rtl --core core.json` writes the image of another net. A damaged word leaves the core without an image\n"
            "and idle, an image for another core changes nothing; IMAGE says so, and IMAGE_CRC what is held."
        )
    how = "write LOAD_ADDRESS, then LOAD_DATA once a word, while the core is idle"
    if not architecture.preloaded:
        return (
            f"The core holds {len(words)} weight words of 32 bits in single-port RAM of the UP5K, undefined at first:\n"
            f"before the first sample {how}, with those of `weights.npz` or others."
        )
    return (
        f"The core holds {len(words)} weight words of 32 bits; its memory starts with those of `weights.npz`. To load\n"
        f"others, {how}."
    )


def _sample(net: IntNet) -> str:
    """What the README says of samples and frames."""
    if not net.schedule.frames:
        return "one frame is one sample"
    return "one frame is one of the sequence of FRAMES frames that a sample is"


def _tokens(i: Input) -> str:
    return f", tokens {i.limits[0]} to {i.limits[1]}: another number reads another row of a table" * (i.kind == "index")


def _streams(shell: Shell) -> str:
    """The README's section on a memory outside; empty without one."""
    if not shell.streamed:
        return ""
    from eqcompile.rtl.processor.outside import BUFFER, BURST

    bits = shell.engine.signature.memory_bits
    return fill("MEMORY.md.tmpl", bits=str(bits), bytes=str(bits // 8), burst=str(BURST), buffer=str(BUFFER))


def _hardening(engine: Engine, *, flags: bool) -> str:
    """The README's section on hardening; empty without any. `flags`: whether registers count what it detects."""
    if not engine.harden:
        return ""
    listed = "\n".join(f"- `{name}` {MECHANISMS[name]}" for name in engine.harden)
    if not flags:
        units = "; ".join(f"{state} {', '.join(map(str, numbers))}" for state, numbers in engine.protect.items())
        return fill("VOTES.md.tmpl", names=listed, units=units or "none")
    return fill("HARDENING.md.tmpl", names=listed, image=_IMAGE_HARDENED if engine.signature.image else "")


_IMAGE_HARDENED = """

A code on the weight memory is on the program too, and the column table and the tables have parity. An instruction that
cannot be repaired ends the image: IMAGE reads 0x500 until one is loaded."""


def _readme(
    net: IntNet, architecture: Architecture, shell: Shell, details: JsonObject, words: Sequence[int] | None
) -> str:
    x, y = shell.x_port, shell.y_port
    return fill(
        "README.md.tmpl",
        title=net.name,
        digest=net.digest,
        arch=architecture.name,
        figures=_line(details),
        sample=_sample(net),
        result="a frame of a sequence" if net.schedule.emit == "every" else "a sample",
        x=f"{x.count} codes of {x.format}, {8 * x.bytes} bits of TDATA each, {x.beat} a beat",
        y=f"{y.count} codes of {y.format}, {8 * y.bytes} bits of TDATA each, {y.beat} a beat",
        inputs="\n".join(f"- `{i.name}` {list(i.shape)}{_tokens(i)}" for i in net.inputs),
        outputs="\n".join(f"- `{o.name}`: {o.kind}, one code is {o.scale!r}" for o in net.outputs),
        loads=_loads(architecture, words, image=shell.engine.signature.image) + _streams(shell),
        registers=readme_table(register_rows(shell)),
        hardening=_hardening(shell.engine, flags=shell.guard is not None),
        packaged=text("PACKAGED.md.tmpl") if architecture.preloaded else "",
        primitives="no vendor primitives" if architecture.preloaded else "its vendor primitives are `SB_SPRAM256KA`",
    )
