"""The documentation: every link leads somewhere, every command line parses or runs, generated pages are current."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from browser import CHROMIUM, WIDTHS
from PIL import Image

from eqcompile.app.cli.commands import run_command
from eqcompile.app.cli.console import Parser
from eqcompile.app.cli.main import eqfault, eqsim, eqtune, main
from eqcompile.app.reference import commands, files
from eqcompile.rtl.boards.pins import BOARDS
from eqcompile.rtl.boards.top import TOP
from eqcompile.targets.rtl.synth.parts import PARTS

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
PROGRAMS: dict[str, Callable[..., int]] = {"eqcompile": main, "eqsim": eqsim, "eqfault": eqfault, "eqtune": eqtune}
BLOCK = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)
RUN = ("own-parts", "campaign-on-dask", "failure-rate", "read-a-report")
"""Pages whose `console` blocks run here; those of the others run in `tests/examples`."""


def site() -> ModuleType:
    """`docs/site.py`."""
    spec = importlib.util.spec_from_file_location("documentation_site", DOCS / "site.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(DOCS)
        spec.loader.exec_module(module)
    return module


def blocks(page: Path) -> list[tuple[str, str]]:
    return BLOCK.findall(page.read_text(encoding="utf-8"))


def lines(page: Path, *languages: str) -> Iterator[list[str]]:
    """The command lines of eqcompile in blocks of these languages."""
    for language, text in blocks(page):
        for line in text.splitlines() if language in languages else ():
            words = shlex.split(line, comments=True)
            if words and words[0] in PROGRAMS:
                yield words


class Parsed(Exception):
    """Ends a command once its words are parsed."""


def parse(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Read a command line as its command does, without running it; raises what is wrong with it."""
    original = Parser.parse

    def parse_and_end(self: Parser, argv: Any) -> Any:
        namespace, faults = original(self, argv)
        assert faults == []
        # No choice of the parser's: a part that there is not has a diagnostic of its own.
        assert self.prog != "eqcompile synth" or namespace.part in PARTS
        raise Parsed

    with monkeypatch.context() as patch:
        patch.setattr(Parser, "parse", parse_and_end)
        short = {"eqsim": "run", "eqfault": "fault", "eqtune": "tune"}
        with pytest.raises(Parsed):
            run_command([short[words[0]], *words[1:]] if words[0] in short else words[1:])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_command_lines_are_read_by_their_command(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An option that was renamed would stay in a page that no test runs, because it takes minutes."""
    for words in lines(page, "", "console", "bash"):
        parse(words, monkeypatch)


def test_an_option_that_is_gone_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above could otherwise not fail."""
    wrong = ("eqfault run out --faultz 3", "eqcompile model.pt --target rtl -o out --lames 3")
    for line in (*wrong, "eqcompile synth core --part ecp5-25k,up5k"):
        with pytest.raises(AssertionError):
            parse(shlex.split(line), monkeypatch)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_python_of_a_page_is_python(page: Path) -> None:
    """Blocks that no test runs must at least be what they say."""
    for language, text in blocks(page):
        if language == "python" and ">>>" not in text:
            ast.parse(text)


@pytest.mark.slow
@pytest.mark.parametrize("name", RUN)
def test_the_commands_of_a_page_run(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A reader copies these lines in their order; one that fails costs a user."""
    monkeypatch.chdir(tmp_path)
    Path("examples").symlink_to(ROOT / "examples")
    typed = list(lines(DOCS / "how-to" / f"{name}.md", "console"))
    assert typed
    for words in typed:
        assert PROGRAMS[words[0]](words[1:]) == 0, f"{shlex.join(words)}\n{capsys.readouterr().err}"


def test_the_bitstream_has_the_name_that_the_page_says() -> None:
    """The line that loads the board named a file that no command writes."""
    text = (DOCS / "how-to" / "bitstream.md").read_text(encoding="utf-8")
    board = BOARDS["ulx3s"]
    assert board.program.format(file=f"core/board/{TOP}.{PARTS[board.part].family.bitstream}") in text


def test_links_lead_somewhere() -> None:
    """A dead link is a page that a reader needed; `make site` checks anchors too."""
    builder = site()
    pages = list(builder.sources())
    assert len(pages) > 50
    dead = []
    for page in pages:
        for link in builder.links((ROOT / page).read_text(encoding="utf-8")):
            target = ROOT / page.parent / link
            dead += [] if target.exists() else [f"{page}: {link}"]
    assert dead == []
    assert builder.links("[a](b.md) `[c](d.md)`\n```\n[e](f.md)\n```\n[g](#h) [i](j.md#k)\n") == ["b.md", "j.md"]


def test_every_page_is_in_the_navigation_and_on_the_map() -> None:
    """A page that nothing leads to is not read."""
    navigation = (DOCS / "mkdocs.yml").read_text(encoding="utf-8")
    text = (DOCS / "README.md").read_text(encoding="utf-8")
    for page in PAGES:
        assert str(page.relative_to(ROOT)) in navigation
        assert page.name == "README.md" or f"]({page.relative_to(DOCS)})" in text, page


@pytest.mark.parametrize("name", ["commands", "files"])
def test_generated_pages_are_current(name: str) -> None:
    """`make docs` writes them from the program."""
    page = {"commands": commands.page, "files": files.page}[name]
    assert (DOCS / "reference" / f"{name}.md").read_text(encoding="utf-8") == page(), "run `make docs`"


def test_the_page_of_commands_has_each_option_once() -> None:
    """Would break if the options of a target were missing, or each target repeated those of all."""
    page = commands.page()
    assert page.count("| `--lanes N` |") == 1
    assert page.count("| `--arch NAME` |") == 1
    parser = commands.parser_of(["certify"])
    assert {"--safe", "--ticks"} <= {s for action in parser._actions for s in action.option_strings}


def test_outcomes_are_those_of_the_program() -> None:
    """Would break if an outcome were added and not explained."""
    from eqcompile.sim.faults.engine import Outcome

    text = (DOCS / "explanation" / "healed.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| (\w+) \| (?!the disturbed)", text, re.MULTILINE) == [
        o.name.lower()
        for o in (
            Outcome.HANG,
            Outcome.DETECTED,
            Outcome.SDC,
            Outcome.MASKED,
            Outcome.HEALED,
            Outcome.NEAR,
            Outcome.UNSETTLED,
            Outcome.OTHER,
        )
    ]
    assert len(re.findall(r"^\| \w+ \| ", text, re.MULTILINE)) == len(Outcome) + 1


def test_the_mechanisms_are_those_of_the_program() -> None:
    """Would break if the page of hardening lagged behind."""
    from eqcompile.rtl.harden.mechanisms import MECHANISMS

    text = (DOCS / "how-to" / "hardened-core.md").read_text(encoding="utf-8")
    assert dict(re.findall(r"^\| `([\w-]+)` \| (.*) \|$", text, re.MULTILINE)) == MECHANISMS


@pytest.mark.simulator
@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed: apt-get install chromium")
def test_the_album_of_a_page_has_each_width_in_light_and_dark_and_a_pdf(tmp_path: Path) -> None:
    """Would break if a page were cut, drawn at another width, or dark where it should be light."""
    page = tmp_path / "page.html"
    style = ":root { color-scheme: light dark } @media (prefers-color-scheme: dark) { body { background: #000 } }"
    page.write_text(f"<html><style>{style}</style><body><div style='height:1500px'>text</div></body></html>")
    files = {file.name: file for file in site().album(page, tmp_path / "album", "p")}
    names = [f"p-{width}-{scheme}.png" for width in WIDTHS for scheme in ("light", "dark")]
    assert sorted(files) == sorted([*names, "p.pdf"])
    assert files["p.pdf"].read_bytes().startswith(b"%PDF")
    for name in names:
        with Image.open(files[name]) as image:
            assert image.width == max(int(name.split("-")[1]), 500)
            assert image.height >= 1500
            assert sum(image.convert("RGB").getpixel((10, 1400))) == (0 if "dark" in name else 3 * 255)  # type: ignore[arg-type]


ONE_LINE = """<script>addEventListener('load', () => {
  const names = [...document.querySelectorAll('td:first-child code')];
  const broken = names.filter(n => n.getClientRects().length > 1).map(n => n.innerText);
  document.title = JSON.stringify([names.length, broken]);
})</script></body>"""


@pytest.mark.simulator
@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed: apt-get install chromium")
def test_names_of_boards_stay_in_one_piece_on_a_telephone(tmp_path: Path) -> None:
    """A name broken in two is copied with a blank in it, or read as two."""
    pytest.importorskip("material")
    builder = site()
    style = (DOCS / "mkdocs.yml").read_text(encoding="utf-8").partition("extra_css: [")[2].partition("]")[0]
    assert style == builder.STYLE
    (tmp_path / "pages" / "docs").mkdir(parents=True)
    (tmp_path / "pages" / "index.md").write_text((DOCS / "how-to" / "bitstream.md").read_text(encoding="utf-8"))
    (tmp_path / "pages" / style).write_text((ROOT / style).read_text(encoding="utf-8"))
    form = "site_name: s\ndocs_dir: pages\nsite_dir: html\ntheme: {name: material, font: false}\n"
    (tmp_path / "mkdocs.yml").write_text(f"{form}markdown_extensions: [tables]\nextra_css: [{style}]\n")
    words = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--config-file", str(tmp_path / "mkdocs.yml")]
    subprocess.run(words, check=True, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}, timeout=120)
    page = tmp_path / "html" / "index.html"
    page.write_text(page.read_text(encoding="utf-8").replace("</body>", ONE_LINE), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(DOCS)
        import pictures
    frame = tmp_path / "html" / "frame.html"
    telling = 'onload="document.title = this.contentDocument.title"'
    frame.write_text(f'<iframe width="390" height="900" src="index.html" {telling}></iframe>', encoding="utf-8")
    told = pictures.chromium(tmp_path / "profile", "--allow-file-access-from-files", "--dump-dom", frame.as_uri())
    count, broken = json.loads(re.findall(r"<title>(.*?)</title>", told)[0])
    assert count == len(BOARDS)
    assert broken == []


def test_pages_install_from_the_clone() -> None:
    """`pip install eqcompile` asks an index that does not have it: who begins has the repository and nothing else."""
    pages = [DOCS.parent / "README.md", *DOCS.glob("tutorial/*.md"), *DOCS.glob("how-to/*.md")]
    index = re.compile(r"pip install (-\S+ )*['\"]?eqcompile")
    assert index.search("pip install -U eqcompile")
    other = [page for page in pages if page.name != "install.md" and index.search(page.read_text(encoding="utf-8"))]
    assert other == []
    assert "pip install '.[rtl]'" in (DOCS / "how-to" / "bitstream.md").read_text()


def test_packages_of_a_python_that_is_not_there_fail_at_once(tmp_path: Path) -> None:
    """A job of CI for one Python that passed because there was none would say nothing."""
    script = DOCS.parent / ".ci" / "packages"
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    done = subprocess.run(["bash", script, "3.99"], capture_output=True, text=True, timeout=60, check=False, env=env)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "Python 3.99 is not here\n")
