"""What is proved of a net: how its relaxation contracts, and what an upset can leave of a label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from eqcompile.toolchain.artifact import write_json

from ..certification import certification, safe_share
from ..clocks import InputCodes
from ..documents import CertifyDocument
from ..files import replacing
from ..options import TicksOption
from ..progress import progress_if
from ..report.data import number
from ..report.figure import BLUE, Curve, curves
from ..wording import percent
from .build import Build
from .display import Display, Picture, Row
from .quantization import Quantization
from .samples import SampleSource, name_of, samples_of

__all__ = ["Certification", "certify"]


@dataclass(frozen=True, eq=False)
class Certification(Display):
    """What is proved. `document`: as `eqcompile certify --json` prints it; what checks it independently reads it."""

    document: CertifyDocument

    @property
    def safe(self) -> float:
        """The share of the samples whose label is proved to stay after an upset that leaves the most ticks; 0 without
        samples."""
        return safe_share(self.document)

    def save(self, path: str | Path, *, force: bool = False) -> Path:
        """Write the document as JSON; ArtifactError if the file exists without `force`."""
        path = Path(path)
        with replacing(path, force=force) as temporary:
            write_json(temporary, self.document)
        return path

    def rows(self) -> Sequence[Row]:
        """The bound for every input and, of samples, what a user may tell others."""
        d = self.document
        rows: list[Row] = [("net", f"{d['source']}: {d['ir_digest'][:16]}")]
        rows += [("every input [proved]", line) for line in d["lines"]]
        if (samples := d.get("recovery")) is None:
            return rows
        rows.append(("samples", samples["samples"]))
        if "reason" in samples:
            return [*rows, ("not proved", samples["reason"])]
        rows.append(("theorem [proved]", samples["theorem"]))
        return [*rows, ("label cannot change", number(self.safe, "proved", "of samples, with the most ticks left"))]

    def plot(self) -> Picture:
        """The share of samples whose label cannot change, by ticks that an upset leaves; nothing without samples."""
        samples = self.document.get("recovery")
        if samples is None or not samples.get("rows"):
            return Picture(())
        shares = [row["safe"]["value"] for row in samples["rows"]]
        return Picture(
            (
                curves(
                    "safe",
                    [Curve(shares, BLUE, 2.2, first=1)],
                    title="Samples whose label no upset can change (proved)",
                    x_label="ticks left after the upset",
                    y_label="share of samples",
                    limits=(0.0, 1.0),
                    mark=percent,
                ),
            )
        )


def certify(
    net: Quantization | Build,
    x: SampleSource | None = None,
    *,
    ticks: int = TicksOption.ticks,
    limit: int | None = None,
    progress: bool = True,
) -> Certification:
    """Prove how the relaxation of integers contracts, for every input; and for samples `[samples, (frame,) *shape]` of
    real numbers, or a file of them, from how many ticks on no upset of the states can change the label.

    Args:
        net: what `quantize`, `compile` or `open` returns.
        x: the samples; without them only what holds for every input is proved.
        ticks: ticks that an upset leaves, at most.
        limit: the first samples alone.
        progress: whether progress is shown.

    Raises ImportFileError with everything that is wrong with the samples.
    """
    inputs = None
    if x is not None:
        samples = samples_of(x, net.net, limit=limit)
        inputs = InputCodes.of(net.net, samples, f"{samples.count} of {name_of(x)}")
    source = net.folder if isinstance(net, Build) else None
    with progress_if(progress, "sample") as report:
        document = certification(
            net.net,
            source=source,
            inputs=inputs,
            ticks=ticks,
            progress=lambda done, total: report("certify", done, total),
        )
    return Certification(document)
