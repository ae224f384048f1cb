"""One core, several nets: images are loaded at run time, and what is no whole image for the core never runs."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from conformance_nets import example
from emitting import emitted, refused
from numpy.typing import NDArray
from processor_loads import Host, Job, play
from strategies import random_inputs, random_net

from eqcompile.rtl.processor.corefile import read_core
from eqcompile.rtl.processor.description import Description, program_of
from eqcompile.rtl.processor.fit import fit
from eqcompile.rtl.processor.hardware import ProcessorEngine
from eqcompile.rtl.processor.loadable import Fault, Header, Layout, Section, crc_of, image_of, words_of
from eqcompile.rtl.processor.simulator import Processor
from eqcompile.targets.rtl.image import IMAGE
from eqcompile.targets.rtl.target import RtlTarget
from eqcompile.toolchain import golden
from eqcompile.toolchain.diagnostics import UnsupportedError, UsageError
from eqcompile.toolchain.ir import IntNet

LANES = 4
HELD, COMING = 1, 2
Codes = Mapping[str, NDArray[np.int64]]


@cache
def net_of(seed: int) -> tuple[IntNet, Codes]:
    rng = random.Random(seed)
    net = random_net(rng, frames=False)
    return net, {name: codes[:2] for name, codes in random_inputs(net, rng).items()}


def description(seed: int) -> Description:
    return program_of(net_of(seed)[0], LANES, 1)[1]


def core_for(*seeds: int) -> ProcessorEngine:
    """A core that starts with the first net and has room for the others."""
    return ProcessorEngine(net_of(seeds[0])[0], trace=True, also=[description(s) for s in seeds[1:]])


def job(engine: ProcessorEngine, seed: int) -> Job:
    net, codes = net_of(seed)
    return Job(net, fit(*program_of(net, LANES, 1), engine.description, net.name), codes)


def refusal(status: int) -> Fault:
    return Fault(status >> 8)


@pytest.mark.slow
def test_a_core_runs_one_net_after_the_other() -> None:
    """Words of the net before that stay in a bank, a list or a table would show in a state of a tick."""
    engine = core_for(2, 4)
    jobs = [job(engine, seed) for seed in (2, 4, 2)]

    async def bench(host: Host) -> None:
        await host.run(jobs[0])
        for one in jobs[1:]:
            words = engine.load_words(one.net)
            await host.load(words)
            assert host.status == HELD
            assert host.ctx.get(engine.image_crc) == words[-1]
            await host.run(one)

    play(engine, bench)
    assert [one.differences() for one in jobs] == [[], [], []]
    assert jobs[0].outputs == jobs[2].outputs != jobs[1].outputs


def damaged(words: list[int], at: int, bit: int = 0) -> list[int]:
    return [*words[:at], words[at] ^ 1 << bit, *words[at + 1 :]]


def long_section(words: list[int], section: Section, layout: Layout) -> list[int]:
    """A header that says one entry more of a section than there is room for."""
    at = Header.PROGRAM + section
    return [*words[:at], layout.room[section] + 1, *words[at + 1 :]]


@pytest.mark.slow
def test_a_foreign_image_changes_nothing() -> None:
    """What is for another core would overwrite the image that is held before anybody could notice."""
    engine = core_for(2)
    words, layout = engine.load_words(engine.net), Layout.of(engine.description)
    cases = [
        (damaged(words, Header.MAGIC), Fault.MAGIC),
        (damaged(words, Header.VERSION, 4), Fault.VERSION),
        (damaged(words, Header.DIGEST, 31), Fault.CORE),
        ([*words[: Header.INPUTS], 0, *words[Header.OUTPUTS :]], Fault.LENGTH),
        (damaged(words, Header.OUTPUTS, 20), Fault.LENGTH),
        ([*words[: Header.PROGRAM], 0, *words[Header.WEIGHTS :]], Fault.LENGTH),
        *((long_section(words, s, layout), Fault.LENGTH) for s in Section),
    ]
    after = job(engine, 2)

    async def bench(host: Host) -> None:
        for image, fault in cases:
            await host.load(image)
            assert (host.status & 3, refusal(host.status)) == (HELD, fault), fault
        await host.run(after)

    play(engine, bench)
    assert after.differences() == []


@pytest.mark.slow
def test_a_damaged_image_leaves_the_core_idle_and_unharmed() -> None:
    """One bit anywhere behind the header, or a word too few, must stop every sample until an image is whole again."""
    engine = core_for(2)
    words = engine.load_words(engine.net)
    rng = random.Random(0)
    places = [Header.SCHEDULE, len(Header), *rng.sample(range(len(Header), len(words)), 6), len(words) - 1]
    codes = [0] * engine.signature.x_port.count
    after = job(engine, 2)

    async def bench(host: Host) -> None:
        for at in places:
            await host.load(damaged(words, at, rng.randrange(32)))
            assert (host.status & 3, refusal(host.status)) == (0, Fault.CRC), at
            assert await host.sample(codes, 1) == [], at
        await host.load(words[:-1])
        assert host.status == COMING
        assert await host.sample(codes, 1) == []
        await host.load(words)
        assert host.status == HELD
        await host.run(after)

    play(engine, bench)
    assert after.differences() == []


@pytest.mark.parametrize("seed", range(8))
def test_words_hold_the_image(seed: int) -> None:
    """The instruction-set simulator runs what a core reads from the words, on a core that was made for another net."""
    net, codes = net_of(seed)
    program, own = program_of(net, LANES, 1)
    core = description(seed + 1).joined(own)
    fitted = fit(program, own, core, net.name)
    words = words_of(fitted.image, core, net.schedule, own.x.beats, own.y.beats)
    assert len(words) <= Layout.of(core).most
    processor, want = Processor(image_of(words, core)), golden.run(net, codes)
    for k in range(len(want.steps)):
        sample = processor.run([np.concatenate([codes[i.name][k].ravel() for i in net.inputs])])
        outputs = np.concatenate([want.outputs[o.name][k].ravel() for o in net.outputs])
        assert sample.emitted.tolist() == outputs.tolist()
    with pytest.raises(ValueError, match="no image of this core"):
        image_of(damaged(words, len(words) // 2), core)
    other = [*words[: Header.DIGEST], words[Header.DIGEST] ^ 1, *words[Header.SCHEDULE : -1]]
    with pytest.raises(ValueError, match="no image of this core"):
        image_of([*other, crc_of(other)], core)


@pytest.mark.parametrize("seed", range(4))
def test_a_core_for_two_nets_takes_both_and_no_more(seed: int) -> None:
    """A joined core that one of its nets does not fit would be synthesised for nothing."""
    a, b = description(seed), description(seed + 1)
    both = a.joined(b)
    for k in (seed, seed + 1):
        program, own = program_of(net_of(k)[0], LANES, 1)
        assert fit(program, own, both, "net").image.core == both.core
    assert a.joined(a) == a
    assert Description.from_json(json.loads(json.dumps(both.to_json())), "x") == both
    assert both.digest != a.digest


def test_every_misfit_is_named_with_both_numbers() -> None:
    """Who hears of one misfit at a time synthesises once for each."""
    program, own = program_of(net_of(2)[0], LANES, 1)
    assert own.core.weight_words > 1
    less = replace(own.core, weight_words=own.core.weight_words - 1, program_words=1, address_bits=1)
    core = replace(own, core=less, nesting=0, y=replace(own.y, count=0))
    with pytest.raises(UnsupportedError) as caught:
        fit(program, own, core, "net")
    whats = [d.what for d in caught.value.diagnostics]
    assert whats == [
        f"it needs {own.core.address_bits} bits of an address, the core has 1",
        f"it needs {own.core.weight_words} words of weights, the core has {own.core.weight_words - 1}",
        f"it needs {own.core.program_words} instructions, the core has 1",
        f"it needs {own.nesting} loops inside each other, the core has 0",
        f"it needs {own.y.count} output codes, the core has 0",
    ]
    with pytest.raises(UnsupportedError, match="is for lanes 4, the core has 2"):
        fit(program, own, replace(own, core=replace(own.core, lanes=2)), "net")


def core_file(folder: Path) -> str:
    """The configuration file of the core of the example net."""
    _, own = program_of(example("plain")[0], LANES, 1)
    file = folder / "core.json"
    file.write_text(json.dumps({"name": "x", "configuration": own.to_json()}), encoding="utf-8")
    return str(file)


def test_an_image_is_written_for_a_core_that_exists(tmp_path: Path) -> None:
    """Without `--core` every net would be a synthesis."""
    net, file = example("plain")[0], core_file(tmp_path)
    (tmp_path / "out").mkdir()
    artifact = emitted(RtlTarget.of(core=file), net, tmp_path / "out")
    words = np.frombuffer((tmp_path / "out" / IMAGE).read_bytes(), "<u4").tolist()
    assert words == ProcessorEngine(net).load_words(net)
    assert {IMAGE, "program.lst", "README.md", "core.json"} <= set(artifact.manifest.files)
    assert "equal to golden" in artifact.manifest.summary[0]
    assert artifact.manifest.details["image_crc"] == words[-1]


def test_an_image_that_does_not_fit_or_has_no_core_is_refused(tmp_path: Path) -> None:
    """The next step of each is in its hint."""
    file = core_file(tmp_path)
    faults = refused(RtlTarget.of(core=file), example("unsigned")[0])
    assert {d.code for d in faults} == {"rtl-core"}
    assert all("--also" in d.hint for d in faults)
    for text in ("[]", "{}", "nonsense", json.dumps({"configuration": {"core": 1}})):
        (tmp_path / "bad.json").write_text(text, encoding="utf-8")
        with pytest.raises(UsageError, match=r"bad\.json"):
            read_core(str(tmp_path / "bad.json"), "core")
    with pytest.raises(UsageError, match="cannot be read"):
        RtlTarget.of(arch="processor", also=str(tmp_path / "none.json"))
    with pytest.raises(UsageError) as caught:
        RtlTarget.of(core=file, arch="serial", trace=True)
    assert [d.where for d in caught.value.diagnostics] == ["trace", "arch"]
