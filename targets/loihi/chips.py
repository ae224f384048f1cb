"""Published limits of a Loihi neurocore and chip, each with its source.

Davies 2018: M. Davies et al., "Loihi: A Neuromorphic Manycore Processor with On-Chip Learning", IEEE Micro 38(1),
82-99, 2018. Brief 2021: Intel Labs, "Taking Neuromorphic Computing to the Next Level with Loihi 2", technology brief,
2021, its table of Loihi and Loihi 2 side by side. The numbers were compared with published quotations of both texts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

__all__ = ["CHIPS", "Chip", "ChipName"]

ChipName = Literal["loihi1", "loihi2"]


@dataclass(frozen=True)
class Chip:
    """Limits for one core, unless named otherwise; None where nothing is published and nothing is checked.

    `memory_bits` holds the synapses; with `shared_memory` the neurons' state and tables as well. `payload_bits` is the
    width of a spike's value, 0 for binary spikes. `sources`: field name to citation.
    """

    name: ChipName
    cores: int
    neurons: int
    memory_bits: int
    shared_memory: bool
    state_bytes: int
    in_axons: int | None
    out_axons: int | None
    weight_bits: int | None
    payload_bits: int
    sources: Mapping[str, str]


CHIPS: Mapping[ChipName, Chip] = {
    "loihi1": Chip(
        name="loihi1",
        cores=128,
        neurons=1024,
        memory_bits=128 * 1024 * 8,
        shared_memory=False,
        state_bytes=24,
        in_axons=4096,
        out_axons=4096,
        weight_bits=9,
        payload_bits=0,
        sources={
            "cores": "Davies 2018, p. 86: 128 neuromorphic cores",
            "neurons": "Davies 2018, p. 89, constraint 1: at most 1,024 neurons a core",
            "memory_bits": "Davies 2018, p. 89, constraint 2: synaptic fan-in state at most 128 KB a core",
            "state_bytes": "Brief 2021, table: neuron state fixed at 24 bytes",
            "in_axons": "Davies 2018, p. 89, constraint 4: at most 4,096 distribution lists a core",
            "out_axons": "Davies 2018, p. 89, constraint 3: at most 4,096 core-to-core fan-out edges a core",
            "weight_bits": "Davies 2018, p. 87: weights of one to nine bits",
            "payload_bits": "Brief 2021, table: binary spike events",
        },
    ),
    "loihi2": Chip(
        name="loihi2",
        cores=128,
        neurons=8192,
        memory_bits=192 * 1024 * 8,
        shared_memory=True,
        state_bytes=4096,
        in_axons=None,
        out_axons=None,
        weight_bits=None,
        payload_bits=32,
        sources={
            "cores": "Brief 2021, table: at most 128 neuron cores a chip",
            "neurons": "Brief 2021, table: 1 million neurons a chip of 128 cores; 8,192 a core",
            "memory_bits": "Brief 2021, table: 192 KB a core, flexible allocation",
            "state_bytes": "Brief 2021, table: 0 to 4,096 bytes a neuron, depending on the neuron model",
            "in_axons": "not published: not checked",
            "out_axons": "not published: not checked",
            "weight_bits": "not published: not checked",
            "payload_bits": "Brief 2021, table: graded spike events, up to 32-bit payload",
        },
    ),
}
