"""An image for a core that exists: the program of a net, its listing, and the proof that it computes the net."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from eqcompile.toolchain.artifact import write_json
from eqcompile.toolchain.diagnostics import Diagnostic, SimulatorError, UnsupportedError
from eqcompile.toolchain.interfaces import Emission, Plan, Progress, Refusals, Vectors, quiet
from eqcompile.toolchain.ir import IntNet

from .templates import fill
from .templates import text as text_of
from .vectors import bench_inputs

if TYPE_CHECKING:
    # They import Amaranth, which a list of targets must not wait for.
    from eqcompile.rtl.processor.compiler import Program
    from eqcompile.rtl.processor.description import Description

__all__ = ["IMAGE", "ImagePlan", "plan_image"]

MEMORY = "weights.bin"
"""What a memory outside must hold, for a core with its weights there."""
IMAGE = "image.bin"
"""The words, little-endian."""


def plan_image(net: IntNet, file: str) -> ImagePlan | Refusals:
    """The image of a verified net for the core of a configuration file.

    Raises UsageError: the file describes no core.
    """
    from eqcompile.rtl.processor.corefile import read_core
    from eqcompile.rtl.processor.description import program_of
    from eqcompile.rtl.processor.fit import fit
    from eqcompile.rtl.processor.hardware.engine import check

    core = read_core(file, "core")
    lanes, width = core.core.lanes, core.core.width
    faults = tuple(check(net, lanes, width, external=core.external))
    if faults:
        return Refusals(faults)
    program, needs = program_of(net, lanes, width)
    try:
        fitted = fit(program, needs, core, net.name)
    except UnsupportedError as error:
        return Refusals(tuple(error.diagnostics))
    return ImagePlan(net, core, fitted, needs)


@dataclass(frozen=True)
class ImagePlan(Plan):
    """A net as an image for the core `description`. `needs`: its own core."""

    description: Description
    program: Program
    needs: Description

    @cached_property
    def words(self) -> list[int]:
        """The image, words of 32 bits."""
        from eqcompile.rtl.processor.loadable import words_of

        return words_of(self.program.image, self.description, self.net.schedule, self.needs.x.beats, self.needs.y.beats)

    @cached_property
    def memory(self) -> bytes:
        """What a memory outside must hold; empty where the weights are words of the image."""
        from eqcompile.rtl.processor.loadable import memory_of

        return memory_of(self.program.image, self.description) if self.description.external else b""

    @property
    def bench_inputs(self) -> Mapping[str, NDArray[np.int64]]:
        return bench_inputs(self.net)

    def emit(self, folder: Path, vectors: Vectors | None, progress: Progress = quiet) -> Emission:
        """Raises SimulatorError: the instruction-set simulator does not compute golden's codes with it."""
        from eqcompile.rtl.processor.costs import listing

        assert vectors is not None
        differences = list(self._differences(vectors))
        if differences:
            what = f"the image gives other codes than golden: {differences[0]}"
            raise SimulatorError(
                Diagnostic("compare-diverges", what, self.net.name, "golden is the definition of right")
            )
        words, samples = self.words, len(vectors.run.steps)
        (folder / IMAGE).write_bytes(np.array(words, "<u4").tobytes())
        if self.description.external:
            (folder / MEMORY).write_bytes(self.memory)
        (folder / "program.lst").write_text(listing(self.program), encoding="utf-8")
        write_json(folder / "core.json", {"configuration": self.description.to_json()})
        used = self._use()
        text = fill(
            "IMAGE.md.tmpl",
            title=self.net.name,
            digest=self.net.digest,
            words=str(len(words)),
            crc=f"0x{words[-1]:08X}",
            core=f"0x{self.description.digest:08X}",
            samples=str(samples),
            inputs=str(self.needs.x.count),
            outputs=str(self.needs.y.count),
            memory=f"\n{text_of('OUTSIDE.md.tmpl')}" if self.description.external else "",
            use="\n".join(f"| {name} | {has} | {of} |" for name, (has, of) in used.items()),
        )
        (folder / "README.md").write_text(text, encoding="utf-8")
        line = (
            f"image of {len(words)} words of 32 bits, CRC-32 0x{words[-1]:08X}: every state of every tick and every "
            f"output of {samples} samples equal to golden [simulated: instruction set, from the words of the image]"
        )
        details = {"image_words": len(words), "image_crc": words[-1], "core_digest": self.description.digest}
        return Emission({"arch": "processor", **details, "image_samples": samples}, (line,))

    def _use(self) -> dict[str, tuple[int, int]]:
        """Entries of each memory that the image takes, and that the core has."""
        image, core = self.program.image, self.description.core
        return {
            "instructions": (len(image.program), core.program_words),
            "words of weights": (len(image.weights), core.weight_words),
            "rows of the column table": (len(image.columns), core.column_words),
            "entries of tables": (len(image.tables), core.table_words),
        }

    def _differences(self, vectors: Vectors) -> Iterator[str]:
        """Where the words, read as a core reads them and run by the instruction-set simulator, are not golden."""
        from eqcompile.rtl.processor.loadable import image_of
        from eqcompile.rtl.processor.simulator import Processor

        ticks: list[tuple[int, dict[str, NDArray[np.int64]]]] = []
        places, schedule = self.program.states, self.net.schedule

        def watch(processor: Processor) -> None:
            held = {s: processor.banks[b][at : at + n].copy() for s, (b, at, n) in places.items()}
            ticks.append((processor.frame, held))

        processor, run = Processor(image_of(self.words, self.description, self.memory), watch), vectors.run
        for k, steps in enumerate(run.steps):
            ticks.clear()
            given = [vectors.inputs[i.name][k] if schedule.frames else vectors.inputs[i.name][k : k + 1]
                     for i in self.net.inputs]  # fmt: skip
            sample = processor.run(
                [np.concatenate([codes.ravel() for codes in frame]) for frame in zip(*given, strict=True)]
            )
            if len(ticks) != steps:
                yield f"sample {k} makes {len(ticks)} ticks, golden {steps}"
                continue
            for t, (frame, states) in enumerate(ticks):
                # Ticks that a frame did not make have rows in golden's states all the same.
                row = frame * schedule.steps + sum(number == frame for number, _ in ticks[:t])
                for name, codes in states.items():
                    if not np.array_equal(codes, run.states[name][row, k].ravel()):
                        yield f"state {name} of sample {k} after tick {t}"
            results = [run.outputs[o.name][k] if schedule.emit == "every" else run.outputs[o.name][k][None]
                       for o in self.net.outputs]  # fmt: skip
            outputs = np.concatenate([codes.ravel() for frame in zip(*results, strict=True) for codes in frame])
            if not np.array_equal(sample.emitted, outputs):
                yield f"outputs of sample {k} are {sample.emitted}, golden {outputs}"
