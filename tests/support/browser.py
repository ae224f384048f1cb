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
    bad: /NaN|undefined|\\[object/.test(document.body.innerText)});
})</script></body>"""


class Seen(TypedDict):
    """`out`: texts that leave their figure; `size`: pixels of the smallest text; `wide`: pixels of overflow."""

    width: int
    figures: int
    empty: int
    out: list[str]
    size: float
    silent: int
    wide: int
    bad: bool


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
