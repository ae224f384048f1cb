"""What a browser shows of pages: for the documentation, and at three widths, light, dark and on paper, to look at.

python docs/pictures.py PAGE.html ... -o FOLDER    # NAME-390-light.png and its like, and NAME.pdf, of each page
"""

from __future__ import annotations

import argparse
import html
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
WIDTHS = (390, 768, 1280)
SCHEMES = {"light": 1, "dark": 0}
NARROWEST_WINDOW = 500
"""Pixels; narrower pages are drawn in a frame."""
HEIGHT_PROBE = """<script>addEventListener('load', () => {
  parent.document.title = document.documentElement.scrollHeight; })</script></body>"""


def chromium(profile: Path, *words: str) -> str:
    """Run the browser without a window; its standard output. Ends the program if it fails."""
    assert CHROMIUM is not None
    call = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--virtual-time-budget=3000"]
    done = subprocess.run([*call, f"--user-data-dir={profile}", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{CHROMIUM} ended with {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def picture(page: Path, file: Path, width: int, height: int, scheme: str = "light") -> None:
    """What a browser shows of a page, as PNG: the upper `height` pixels of it."""
    with tempfile.TemporaryDirectory() as place:
        words = [f"--blink-settings=preferredColorScheme={SCHEMES[scheme]}", f"--screenshot={file}"]
        chromium(Path(place), *words, f"--window-size={width},{height}", page.resolve().as_uri())
    if not file.exists():
        sys.exit(f"no picture of {page}")


def frame(text: str, width: int, height: int) -> str:
    """A page that shows another one, as wide as a telephone is."""
    size, style = f'width="{width}" height="{height}"', "border:0;display:block"
    return f'<body style="margin:0"><iframe {size} style="{style}" srcdoc="{html.escape(text)}">'


def height(text: str, width: int, place: Path) -> int:
    """Pixels that a page is high at a width."""
    probe = place / "probe.html"
    probe.write_text(frame(text.replace("</body>", HEIGHT_PROBE), width, 900), encoding="utf-8")
    found = re.search(r"<title>(\d+)</title>", chromium(place / "profile", "--dump-dom", probe.as_uri()))
    return int(found[1]) if found else sys.exit("the browser told no height")


def album(page: Path, folder: Path, name: str) -> list[Path]:
    """The whole page at each width, light and dark, and as PDF; the files."""
    folder.mkdir(parents=True, exist_ok=True)
    text, files = page.read_text(encoding="utf-8"), []
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        for width in WIDTHS:
            high = height(text, width, place)
            framed = place / "frame.html"
            framed.write_text(frame(text, width, high), encoding="utf-8")
            for scheme in SCHEMES:
                files.append(folder / f"{name}-{width}-{scheme}.png")
                picture(framed, files[-1], max(width, NARROWEST_WINDOW), high, scheme)
        files.append(folder / f"{name}.pdf")
        words = ("--no-pdf-header-footer", f"--print-to-pdf={files[-1]}", page.resolve().as_uri())
        chromium(place / "profile", *words)
    return files


def main() -> None:
    """Pictures of each page that is named."""
    parser = argparse.ArgumentParser(description="Pictures of pages at three widths, light, dark, and as PDF.")
    parser.add_argument("pages", type=Path, nargs="+", metavar="PAGE.html")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER")
    arguments = parser.parse_args()
    if CHROMIUM is None:
        sys.exit("no chromium: sudo apt-get install chromium")
    for page in arguments.pages:
        album(page, arguments.output, page.parent.name if page.stem in ("report", "index") else page.stem)


if __name__ == "__main__":
    main()
