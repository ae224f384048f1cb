"""How an object of a stage shows itself: as text, in a notebook, and as a picture."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from eqcompile.toolchain.diagnostics import ArtifactError, Diagnostic

from ..files import replacing
from ..report.kit import number
from ..report.schema import Number
from ..wording import labelled

__all__ = ["Display", "Picture", "Row"]

Row = tuple[str, str | Number]
"""A name, and what is told beside it: text, or a number with its kind."""

_STYLE = (
    ".eqcompile table{border-collapse:collapse}.eqcompile td{text-align:left}"
    ".eqcompile th{text-align:left;vertical-align:top;padding:.1em 1em .1em 0}"
    ".eqcompile .panels{display:flex;flex-wrap:wrap;gap:1em}.eqcompile svg{background:#fff}"
    ".eqcompile .kind{font-size:85%;opacity:.7;margin-left:.4em}"
)


@dataclass(frozen=True)
class Picture:
    """Figures as inline SVG: without scripts or resources of others, each with what it shows in words."""

    panels: tuple[Markup, ...]

    def __repr__(self) -> str:
        return f"Picture of {len(self.panels)} panels; save(path) writes it"

    def _repr_html_(self) -> str:
        body = Markup("").join(self.panels) if self.panels else Markup("<p>nothing to draw</p>")
        return Markup('<div class="eqcompile"><style>{}</style><div class="panels">{}</div></div>').format(
            Markup(_STYLE), body
        )

    def save(self, path: str | Path, *, force: bool = False) -> Path:
        """Write the picture: an `.svg` of the only panel, or an `.html` of all; returns the path.

        Raises ArtifactError if the file exists without `force` or cannot be written, or for several panels as `.svg`.
        """
        path = Path(path)
        alone = path.suffix == ".svg"
        if alone and len(self.panels) != 1:
            what = f"one file of SVG holds one panel, this picture has {len(self.panels)}"
            raise ArtifactError(Diagnostic("picture-panels", what, str(path), "save it as .html"))
        drawn = str(self.panels[0]).replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1) if alone else ""
        with replacing(path, force=force) as temporary:
            temporary.write_text(drawn or self._page(), encoding="utf-8")
        return path

    def _page(self) -> str:
        return f'<!doctype html><meta charset="utf-8"><title>eqcompile</title>{self._repr_html_()}'


class Display(ABC):
    """What every object of a stage has: `print(x)`, a table and a picture in a notebook, and `plot()`."""

    @abstractmethod
    def rows(self) -> Sequence[Row]:
        """The summary: what it is, and its numbers with their kinds."""

    @abstractmethod
    def plot(self) -> Picture:
        """The picture of it."""

    def __str__(self) -> str:
        """The summary as text."""
        rows = [(name, labelled(value) if isinstance(value, dict) else str(value)) for name, value in self.rows()]
        width = max((len(name) for name, _ in rows), default=0)
        return "\n".join(f"{name:<{width}}  {value}".rstrip() for name, value in rows)

    def _repr_html_(self) -> str:
        rows = [(name, number(value) if isinstance(value, dict) else value) for name, value in self.rows()]
        cells = Markup("").join(Markup("<tr><th>{}</th><td>{}</td></tr>").format(*row) for row in rows)
        table = Markup('<div class="eqcompile"><style>{}</style><table>{}</table></div>').format(Markup(_STYLE), cells)
        picture = self.plot()
        return table + (picture._repr_html_() if picture.panels else "")
