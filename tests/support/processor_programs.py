"""Short programs of the relaxation processor, on a core whose banks have numbers from 0 on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from eqcompile.rtl.processor.configuration import Bank, Core
from eqcompile.rtl.processor.encoding import encode
from eqcompile.rtl.processor.image import Image
from eqcompile.rtl.processor.isa import PORT, Begin, Done, Instruction, Stream, Vector
from eqcompile.rtl.processor.simulator import Processor

__all__ = ["A", "CORE", "OUT", "column", "emitted", "value"]

CORE = Core(
    axes=3,
    address_bits=8,
    count_bits=8,
    data_bits=48,
    banks=(Bank(64, 48), Bank(64, 48), Bank(64, 48), Bank(64, 20, sums=True)),
    lanes=2,
    code_bits=4,
    group_bits=4,
    weight_words=16,
    column_words=8,
    table_words=32,
    table_bits=32,
    lists=(16, 16),
    program_words=32,
    width=2,
)
A = Stream(0, 0, (1,))
"""The first words of bank 0, one after the other."""
OUT = Stream(PORT)
"""The output."""


def column(*groups: tuple[int, Sequence[int]]) -> list[int]:
    """Words of one column: group and codes of each."""
    mask = (1 << CORE.code_bits) - 1
    bits = CORE.lanes * CORE.code_bits
    return [sum((c & mask) << k * CORE.code_bits for k, c in enumerate(codes)) | g << bits for g, codes in groups]


def emitted(
    *program: Instruction,
    banks: Mapping[int, Sequence[int]] | None = None,
    tables: Sequence[int] = (),
    columns: Sequence[Sequence[int]] = (),
    frames: Sequence[Sequence[int]] = ((),),
) -> list[int]:
    """What a sample emits that runs `program` between begin and done."""
    words = [w for run in columns for w in run]
    starts = np.cumsum([0, *(len(run) for run in columns)])
    runs = [(int(start), len(run)) for start, run in zip(starts, columns, strict=False)]
    image = Image(
        core=CORE,
        program=tuple(encode(CORE, i) for i in (Begin(), *program, Done())),
        weights=tuple(words),
        columns=np.array(runs, np.int64).reshape(-1, 2),
        tables=np.array(tables, np.int64),
        words={(number, 0): np.array(codes, np.int64) for number, codes in (banks or {}).items()},
    )
    return Processor(image).run([np.array(f, np.int64) for f in frames]).emitted.tolist()


def value(a: Sequence[int], b: Sequence[int] = (), c: Sequence[int] = (), **stages: Any) -> list[int]:
    """The results of one vector instruction over operands that lie in banks 0, 1 and 2."""
    tables = stages.pop("tables", ())
    streams = {"b": Stream(1, 0, (1,)) if b else None, "c": Stream(2, 0, (1,)) if c else None}
    vector = Vector(counts=(len(a),), a=A, d=OUT, **{**streams, **stages})
    return emitted(vector, banks={0: a, 1: b, 2: c}, tables=tables)
