"""CONTRIBUTING.md says with how many files a thing is added: the repository must agree."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PLUGIN = ROOT / "examples" / "plugin"
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def rows() -> list[tuple[str, str, str]]:
    """Kind, files and entry point of each row of the table of things that can be added."""
    table = TEXT.partition("| kind | files |")[2].partition("\n\n")[0]
    cells = [[c.strip() for c in line.strip("|").split("|")] for line in table.splitlines()[2:]]
    return [(kind, files, group.strip("`")) for kind, files, group, _ in cells]


def entry_points(folder: Path) -> dict[str, dict[str, str]]:
    """Entry points of a package by group."""
    project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return dict(project["entry-points"])


def test_every_entry_point_is_in_the_table() -> None:
    """A kind that is not listed is not found by who wants to add one; a group that is gone loads nothing."""
    assert sorted(group for _, _, group in rows() if group != "none") == sorted(entry_points(ROOT))


def test_a_kind_of_the_example_has_the_files_of_the_table() -> None:
    """Would break if the smallest example of a kind needed a file more than the table says, or one were left over."""
    groups = entry_points(PLUGIN)
    modules = [value.partition(":")[0].removeprefix("eqplugin.") for kind in groups.values() for value in kind.values()]
    files = {path.stem for path in (PLUGIN / "eqplugin").glob("*.py")} - {"__init__"}
    assert len(set(modules)) == len(modules)
    assert set(modules) <= files
    assert len(files) == sum(int(count.split()[0]) for _, count, group in rows() if group in groups)


def test_targets_and_architectures_are_folders_of_their_own() -> None:
    """Two in one folder, or one in two, are not added as the table says."""
    for group, place in (("eqcompile.targets", "targets"), ("eqcompile.architectures", "rtl")):
        folders = [value.split(".")[2] for value in entry_points(ROOT)[group].values()]
        assert len(set(folders)) == len(folders)
        assert all((ROOT / place / folder / "__init__.py").is_file() for folder in folders)


def test_a_command_is_one_module() -> None:
    """Each function of the table of commands imports the module of its command, and no other."""
    tree = ast.parse((ROOT / "app" / "cli" / "commands.py").read_text(encoding="utf-8"))
    named = {n.name: n for n in tree.body if isinstance(n, ast.FunctionDef)}
    commands = [n.args[3].id for n in ast.walk(tree) if isinstance(n, ast.Call) and len(n.args) > 3]  # type: ignore[attr-defined]
    assert len(commands) > 5
    for name in commands:
        imports = [a.name for n in ast.walk(named[name]) if isinstance(n, ast.ImportFrom) and n.level for a in n.names]
        assert len(imports) == 1, name


def test_the_make_targets_that_are_named_exist() -> None:
    """Would break if a newcomer typed a command that is not there."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in set(re.findall(r"make ([a-z-]+)", TEXT)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    for path in set(re.findall(r"`((?:tests|toolchain|rtl|app|benchmarks)/[\w./-]+)`", TEXT)):
        assert (ROOT / path).exists(), path
