"""The documentation as a site: gathers the pages, runs the tutorial, takes pictures of reports, and calls mkdocs.

    python docs/site.py            # build/site/html; any dead link, anchor or cell that fails is an error

Pages keep their paths in the repository, so a link that works there works on the site. Other files that a page links
to are copied too. Pictures need Chromium; without it the site is built without them, and says so.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from pictures import CHROMIUM, album, picture

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "build" / "site"
PAGES = BUILD / "pages"
WORK = BUILD / "work"
DECISIONS = "toolchain/decisions"
TUTORIAL = "docs/tutorial/digits.md"
STYLE = "docs/site.css"
LINK = re.compile(r"(\]\()([^)#\s:]+)(#[^)\s]*)?\)")
PICTURE = re.compile(r"^<!-- picture: (\w+) -->$", re.MULTILINE)
SIZES = {"compilation": (1280, 1900), "campaign": (1280, 2600)}
"""Pixels of the window that each picture is taken in."""


def sources() -> Iterator[Path]:
    """The pages, by their paths in the repository."""
    for pattern in ("*.md", "docs/**/*.md", "examples/*.md", "examples/plugin/*.md", f"{DECISIONS}/*.md"):
        yield from (path.relative_to(ROOT) for path in sorted(ROOT.glob(pattern)))
    yield from map(
        Path, ("toolchain/ir/SPEC.md", "benchmarks/RESULTS.md", "targets/rtl/MUTANTS.md", "rtl/processor/ISA.md")
    )


def links(text: str) -> list[str]:
    """Targets of the relative links of a page that lie in other files, code left out."""
    plain = re.sub(r"^```.*?^```$|`[^`\n]*`", "", text, flags=re.DOTALL | re.MULTILINE)
    return [match[2] for match in LINK.finditer(plain)]


def gather() -> None:
    """Copy every page, and the files that pages link to; a link to a folder becomes one to its README."""
    shutil.rmtree(BUILD, ignore_errors=True)
    for page in sources():
        text = (ROOT / page).read_text(encoding="utf-8")
        for target in links(text):
            file = (ROOT / page.parent / target).resolve()
            if file.is_file() and file.suffix != ".md":
                copy = PAGES / file.relative_to(ROOT)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, copy)
            elif file.is_dir():
                text = text.replace(f"]({target})", f"]({target.rstrip('/')}/README.md)")
        write(page, text)
    write(Path(DECISIONS, "README.md"), decisions())
    shutil.copyfile(ROOT / STYLE, PAGES / STYLE)


def write(page: Path, text: str) -> None:
    """A page of the site."""
    (PAGES / page).parent.mkdir(parents=True, exist_ok=True)
    (PAGES / page).write_text(text, encoding="utf-8")


def decisions() -> str:
    """A list of the records of decisions."""
    titles = [
        (p.name, p.read_text(encoding="utf-8").partition("\n")[0]) for p in sorted((ROOT / DECISIONS).glob("0*.md"))
    ]
    rows = [f"- [{title.removeprefix('# ')}]({name})" for name, title in titles]
    return "# Decisions\n\nWhy things are as they are, one page each.\n\n" + "\n".join(rows) + "\n"


def tutorial() -> None:
    """Run the tutorial as a notebook, and write its page with what the cells printed and drew."""
    import jupytext
    from nbclient import NotebookClient
    from nbconvert import MarkdownExporter

    notebook = jupytext.read(ROOT / TUTORIAL)
    place = WORK / "tutorial"
    place.mkdir(parents=True)
    NotebookClient(notebook, timeout=1800, resources={"metadata": {"path": str(place)}}).execute()
    for cell in notebook.cells:
        # Progress is no result.
        if "outputs" in cell:
            cell["outputs"] = [o for o in cell["outputs"] if o.get("name") != "stderr"]
    text, resources = MarkdownExporter().from_notebook_node(notebook)
    jupytext.write(notebook, PAGES / TUTORIAL.replace(".md", ".ipynb"))
    write(Path(TUTORIAL), text.replace("%%bash\n", ""))
    for name, drawn in resources["outputs"].items():
        (PAGES / TUTORIAL).parent.joinpath(name).write_bytes(drawn)


def reports() -> dict[str, Path]:
    """Reports to take pictures of, by name: of a compilation, a campaign, two builds, and two campaigns."""
    data, out, page = ROOT / "examples" / "data", WORK / "out", WORK / "compilation"
    program = Path(sys.executable).with_name("eqcompile")
    inputs = ["--inputs", data / "digits_test.npz"]
    net = ROOT / "examples" / "checkpoints" / "digits_cube.pt"
    call = [program, net, "--target", "numpy", "-o", out, "--calibrate", data / "digits_calibration.npz", *inputs]
    run([*call, "--report", page])
    fault = [program, "fault", "run", out, "--model", "seu", "--engine", "fast", *inputs, "--workers", "1"]
    rates = ["--env", "leo", "--part", "sram-sun-synchronous", "--mission", "5y"]
    run([*fault, "--sites", "state", "--faults", "2000", *rates, "-o", WORK / "campaign"])
    run([*fault, "--sites", "weight", "--faults", "200", "-o", WORK / "weights"])
    run([program, "fault", "report", WORK / "campaign", "--against", WORK / "weights", "--report", WORK / "campaigns"])
    run([*call[:5], WORK / "int4", *call[6:], "--weights", "int4", "--no-verify"])
    run([program, "compare", out, WORK / "int4", *inputs, "--report", WORK / "builds"])
    pages = {name: WORK / name / "report.html" for name in ("campaign", "campaigns", "builds")}
    return {"compilation": page / "report.html", **pages}


def run(words: list[object]) -> None:
    """Run a program quietly; its output is shown if it fails."""
    done = subprocess.run([str(word) for word in words], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{words[0]} ended with {done.returncode}\n{done.stdout}{done.stderr}")


def pictures() -> None:
    """Put a picture of each report where a page asks for one; the page with it is kept beside the picture. In
    `build/site/pictures` is the whole of each report at three widths, light, dark and as PDF, for whoever looks."""
    drawn = reports() if CHROMIUM else {}
    for name, report in drawn.items():
        album(report, BUILD / "pictures", name)
    for page in sorted(PAGES.rglob("*.md")):
        text = page.read_text(encoding="utf-8")
        for name in PICTURE.findall(text):
            if name in drawn:
                picture(drawn[name], page.with_name(f"{name}.png"), *SIZES[name])
                shutil.copyfile(drawn[name], page.with_name(f"{name}.html"))
        page.write_text(PICTURE.sub(_shown if drawn else "", text), encoding="utf-8")


def _shown(match: re.Match[str]) -> str:
    name = match[1]
    return f"[![Report of a {name}, top of the page]({name}.png)]({name}.html)"


def say(text: str) -> None:
    """Progress, at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> None:
    """Build everything."""
    say("== pages")
    gather()
    say("== the tutorial, cell by cell")
    tutorial()
    say("== pictures of reports" if CHROMIUM else "== no chromium: the site has no pictures of reports")
    pictures()
    words = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--config-file", str(ROOT / "docs" / "mkdocs.yml")]
    done = subprocess.run(words, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}, check=False)
    if not done.returncode:
        say(f"site: {BUILD / 'html' / 'index.html'}")
    sys.exit(done.returncode)


if __name__ == "__main__":
    main()
