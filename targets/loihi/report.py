"""The placement as a table."""

from __future__ import annotations

from .mapping import Placement

__all__ = ["mapping_line", "mapping_text"]


def mapping_line(placement: Placement) -> str:
    """The placement in one line: how many cores, the fullest one's share of memory, what is short."""
    chip = placement.chip
    fullest = max((core.memory_bits / chip.memory_bits for core in placement.cores), default=0.0)
    line = (
        f"placed on {chip.name} (estimated): {len(placement.cores)} of {chip.cores * placement.chips} neurocores, "
        f"the fullest with {fullest:.1%} of its memory"
    )
    short = [f"{s.where} needs {s.needed} {s.resource}, available {s.available}" for s in placement.shortages]
    return f"{line}; DOES NOT FIT: {'; '.join(short)}" if short else line


def mapping_text(placement: Placement) -> str:
    """One line for each core, the limits with their sources, what does not fit, and notes."""
    chip = placement.chip
    heads = ("neurons", "memory bits", "in-axons", "out-axons")
    lines = [
        f"Placement on {chip.name}: {len(placement.cores)} of {chip.cores * placement.chips} neurocores (estimated)",
        "",
        f"{'core':>4}  {'population':<20} {'units':>13} {heads[0]:>8} {heads[1]:>12} {heads[2]:>9} {heads[3]:>9}",
    ]
    for number, core in enumerate(placement.cores):
        lines.append(
            f"{number:>4}  {core.population:<20} {f'{core.first}..{core.last - 1}':>13} {core.last - core.first:>8} "
            f"{core.memory_bits:>12} {core.in_axons:>9} {core.out_axons:>9}"
        )
    limits = (chip.neurons, chip.memory_bits, chip.in_axons, chip.out_axons)
    shown = ["-" if n is None else str(n) for n in limits]
    lines.append(f"{'':>4}  {'limit':<20} {'':>13} {shown[0]:>8} {shown[1]:>12} {shown[2]:>9} {shown[3]:>9}")
    for s in placement.shortages:
        lines.append(f"DOES NOT FIT: {s.where} needs {s.needed} {s.resource}, available {s.available}")
    lines += ["", "weights stored: " + ", ".join(f"{n} {kind}" for n, kind in placement.storage.items())]
    lines += ["", "sources of the limits"]
    lines += [f"  {name:<13} {source}" for name, source in chip.sources.items()]
    if placement.notes:
        lines += ["", "notes", *(f"  {note}" for note in placement.notes)]
    return "\n".join(lines) + "\n"
