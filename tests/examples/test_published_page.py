"""What the page on nets of other research codes tells its reader to type works as it is written."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from eqcompile.app.cli.main import main
from eqcompile.toolchain.artifact import NET_FILE
from eqcompile.toolchain.importers.detect import all_families

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "how-to" / "published-nets.md").read_text(encoding="utf-8")
COMMANDS = [
    line for block in re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines() if line
]


def option(words: list[str], name: str) -> str:
    return words[words.index(name) + 1]


@pytest.mark.simulator
@pytest.mark.parametrize("command", COMMANDS, ids=lambda line: shlex.split(line)[-1])
def test_the_commands_of_the_page_run(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader who has such a net copies the line; its target is verified against golden, and nothing is assumed."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tests").symlink_to(ROOT / "tests")
    words = shlex.split(command)
    assert words[0] == "eqcompile"
    assert main([*words[1:], "--report", "report"]) == 0
    assert (tmp_path / option(words, "-o") / NET_FILE).exists()
    assert "ASSUMED" not in (tmp_path / "report" / "report.html").read_text(encoding="utf-8")


def test_the_page_names_every_class() -> None:
    """A class that can be imported and stands nowhere is one that nobody finds."""
    codes = ("laborieux", "hopfield", "laydevant", "mondeq", "torchdeq")
    classes = [key.split(".")[1] for key in all_families() if key.split(".")[0] in codes]
    assert len(classes) == 12
    asked = [option(shlex.split(command), "--family") for command in COMMANDS]
    assert [name for name in classes if f"`{name}`" not in PAGE and name not in asked] == []
