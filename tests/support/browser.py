"""Pages in a browser, at the width of a screen: what it says of figures, of text that leaves them, and of overflow."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import TypedDict

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
WIDTHS = (390, 768, 1280)
PROBE = """<script>addEventListener('load', () => {
  const shown = [...document.querySelectorAll('svg')].filter(s => s.checkVisibility());
  const boxes = shown.map(s => s.getBoundingClientRect());
  const out = shown.flatMap(s => [...s.querySelectorAll('text')]).filter(t => {
    const a = t.getBoundingClientRect(), b = t.closest('svg').getBoundingClientRect();
    return a.left < b.left - 1 || a.right > b.right + 1; }).map(t => t.textContent);
  const size = Math.min(...shown.filter(s => !s.closest('.wide')).flatMap(s => [...s.querySelectorAll('text')].map(
    t => parseFloat(t.getAttribute('font-size')) * s.getBoundingClientRect().width / s.viewBox.baseVal.width)));
  parent.document.title = JSON.stringify({
    width: innerWidth, figures: boxes.length, empty: boxes.filter(b => b.width < 20 || b.height < 20).length, out, size,
    silent: shown.filter(s => !s.getAttribute('aria-label')).length,
    wide: document.documentElement.scrollWidth - innerWidth,
    cut: [...document.querySelectorAll('.wide, p, li')].filter(
      e => e.checkVisibility() && e.clientWidth && e.scrollWidth > e.clientWidth + 1).map(
      e => [e.querySelector('svg') ? 99 : e.querySelectorAll('th').length, e.innerText.slice(0, 60)]),
    bad: /NaN|undefined|\\[object/.test(document.body.innerText)});
})</script></body>"""


class Seen(TypedDict):
    """`out`: texts that leave their figure; `size`: pixels of the smallest text; `wide`: pixels of overflow; `cut`:
    tables, paragraphs and figures (99 columns) wider than their place, by columns and first words."""

    width: int
    figures: int
    empty: int
    out: list[str]
    size: float
    silent: int
    wide: int
    cut: list[tuple[int, str]]
    bad: bool


def printed(page: str) -> str:
    """The page as paper gets it: its rules for print hold on the screen too."""
    assert "@media print" in page
    return page.replace("@media print", "@media all")


def legible(page: str, folder: Path) -> None:
    """Assert that of a page nothing is cut: on a telephone no table of names and values and no paragraph, on a screen
    and on paper (A4 less its margins) nothing at all."""
    telephone = [cut for cut in seen(page, WIDTHS[0], folder)["cut"] if cut[0] <= 2]
    assert telephone == []
    assert seen(page, WIDTHS[-1], folder)["cut"] == []
    assert seen(printed(page), 688, folder)["cut"] == []


def seen(page: str, width: int, folder: Path) -> Seen:
    """A page of a report, `width` pixels wide: in a frame, since no window is as narrow as a telephone."""
    assert CHROMIUM is not None
    inner = html.escape(page.replace("</body>", PROBE))
    outer = folder / f"probed-{width}.html"
    outer.write_text(f'<iframe width="{width}" height="900" style="border:0" srcdoc="{inner}"></iframe>')
    words = ["--headless", "--no-sandbox", "--disable-gpu", "--window-size=1400,1000", "--virtual-time-budget=5000"]
    words += [f"--user-data-dir={folder / 'profile'}", "--dump-dom", outer.as_uri()]
    done = subprocess.run([CHROMIUM, *words], capture_output=True, text=True, timeout=120, check=True)
    told: Seen = json.loads(html.unescape(re.findall(r"<title>(\{.*?\})</title>", done.stdout)[0]))
    return told
