"""The laws between packages, read from the source."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("app", "toolchain", "quantize", "targets", "rtl", "sim")
ALLOWED = {
    "app": {"toolchain", "quantize", "targets", "rtl", "sim"},
    "toolchain": set(),
    "quantize": {"toolchain"},
    "targets": {"toolchain", "rtl"},
    "rtl": {"toolchain"},
    "sim": {"toolchain"},
}
HEAVY = {
    "torch",
    "onnx",
    "onnxruntime",
    "lava",
    "matplotlib",
    "scipy",
    "sklearn",
    "amaranth",
    "cocotb",
    "hls4ml",
    "brevitas",
    "qonnx",
}
TRAINING = {"learner", "train", "weights"}
"""Modules of `quantize/qat` that PyTorch's classes are extended in: its stage imports them once it found PyTorch."""


def sources(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imported(text: str, depth: int) -> set[str]:
    """Sibling packages that a file imports, absolutely or by climbing out of its own package, `depth` levels up."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level > depth:
            names = [f"eqcompile.{node.module or alias.name}" for alias in node.names]
        for name in names:
            parts = name.split(".")
            if parts[0] == "eqcompile" and len(parts) > 1:
                found.add(parts[1])
    return found


def arrows(package: str) -> dict[str, set[str]]:
    found = {}
    for path in sources(package):
        depth = len(path.relative_to(ROOT / package).parts)
        found[str(path.relative_to(ROOT))] = imported(path.read_text(encoding="utf-8"), depth) - {package}
    return found


@pytest.mark.parametrize("package", [p for p in PACKAGES if (ROOT / p).is_dir()])
def test_imports_follow_the_laws(package: str) -> None:
    """An arrow between packages that ARCHITECTURE forbids would let the judge share code with the judged."""
    assert sources(package), f"{package} has no source"
    wrong = {path: bad for path, found in arrows(package).items() if (bad := found - ALLOWED[package])}
    assert wrong == {}


@pytest.mark.parametrize(
    ("text", "depth", "want"),
    [
        ("import eqcompile.targets.numpy", 1, "targets"),
        ("from eqcompile import sim", 1, "sim"),
        ("from eqcompile.quantize import lower", 1, "quantize"),
        ("def f():\n    from eqcompile.sim.golden import run", 1, "sim"),
        ("from .. import rtl", 1, "rtl"),
        ("from ...sim.golden import run", 2, "sim"),
    ],
)
def test_the_law_test_sees_every_form_of_import(text: str, depth: int, want: str) -> None:
    """If the reader of imports missed a form of import, the law above could not fail."""
    assert imported(text, depth) == {want}


@pytest.mark.parametrize("package", [p for p in PACKAGES if (ROOT / p).is_dir()])
def test_no_heavy_import_at_module_level(package: str) -> None:
    """A heavy import at module level slows every command and turns a missing extra into a traceback."""
    wrong = []
    for path in sources(package):
        if "templates" in path.parts:
            continue
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            heavy = HEAVY - {"amaranth"} if package == "rtl" else HEAVY
            if "qat" in path.parts and path.stem in TRAINING:
                heavy = heavy - {"torch", "brevitas"}
            wrong += [f"{path.relative_to(ROOT)}: {n}" for n in names if n.split(".")[0] in heavy]
    assert wrong == []


def test_files_stay_readable() -> None:
    """A file of more than 400 lines is one that nobody reads."""
    long = {}
    for folder in (*PACKAGES, "examples", "tests", "benchmarks"):
        for path in sources(folder) if (ROOT / folder).is_dir() else []:
            lines = len(path.read_text(encoding="utf-8").splitlines())
            if lines > 400:
                long[str(path.relative_to(ROOT))] = lines
    assert long == {}


def test_nothing_of_the_authors_machine_is_committed() -> None:
    """Paths of one machine or a registry's address in the sources would break for everybody else."""
    words = ("/" + "work/", "/" + "tmp/w", "pypi." + "org", "files." + "pythonhosted")
    found = []
    for folder in (*PACKAGES, "examples", "tests", "benchmarks", ".ci"):
        for path in (ROOT / folder).rglob("*") if (ROOT / folder).is_dir() else []:
            if path.suffix in {".py", ".md", ".tmpl", ".html", ".toml", ""} and path.is_file():
                text = path.read_text(encoding="utf-8", errors="replace")
                found += [f"{path.relative_to(ROOT)}: {w}" for w in words if w in text]
    assert found == []
