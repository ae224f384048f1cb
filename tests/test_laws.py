"""The laws between rooms: arrows and circles of imports by an import-graph tool, the rest read from the source."""

import ast
from copy import deepcopy
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("app", "toolchain", "quantization", "targets", "rtl", "sim")
ARROWS = {
    "app": {"toolchain", "quantization", "targets", "rtl", "sim"},
    "toolchain": set(),
    "quantization": {"toolchain"},
    "targets": {"toolchain", "rtl"},
    "rtl": {"toolchain"},
    "sim": {"toolchain"},
}
"""What the modules of a room may import of other rooms."""
JUDGES = {"eqcompile.toolchain.golden", "eqcompile.toolchain.reference"}
"""The two interpreters, which what they judge may not import."""
JUDGED = {"targets", "rtl"}
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
"""Modules of `quantization/qat` that extend classes of PyTorch: its stage imports them once it has PyTorch."""


def sources(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


@cache
def graph() -> grimp.ImportGraph:
    """Every import of the installed package, those for type checking and those inside functions included."""
    return grimp.build_graph("eqcompile", exclude_type_checking_imports=False, cache_dir=None)


def inside(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def arrows(imports: grimp.ImportGraph) -> set[tuple[str, str]]:
    """Importer and imported module, for each pair."""
    return {(a, b) for a in imports.modules for b in imports.find_modules_directly_imported_by(a)}


def forbidden(imports: grimp.ImportGraph) -> list[str]:
    """Arrows that ARROWS does not have, and those from the judged to the judges."""
    found = []
    for importer, imported in sorted(arrows(imports)):
        room, other = (module.split(".")[1] if "." in module else "" for module in (importer, imported))
        crossing = room in ARROWS and room != other and other not in ARROWS[room]
        judged = room in JUDGED and any(inside(imported, judge) for judge in JUDGES)
        if crossing or judged:
            found.append(f"{importer} -> {imported}")
    return found


def circle(imports: grimp.ImportGraph) -> list[str]:
    """Modules that import each other, directly or through others; empty if there are none."""
    sorter = TopologicalSorter({m: imports.find_modules_directly_imported_by(m) for m in imports.modules})
    try:
        sorter.prepare()
    except CycleError as error:
        modules: list[str] = error.args[1]
        return modules
    return []


def test_the_graph_holds_every_module() -> None:
    """A tool that does not follow the links of `src` would see no module, and no arrow would be forbidden."""
    missing = []
    for package in PACKAGES:
        for path in sources(package):
            if "templates" in path.parts and path.name != "__init__.py":
                continue
            parts = path.relative_to(ROOT).with_suffix("").parts
            module = ".".join(("eqcompile", *(parts[:-1] if parts[-1] == "__init__" else parts)))
            missing += [] if module in graph().modules else [module]
    assert missing == []


def test_imports_follow_the_laws() -> None:
    """An arrow between rooms that the design forbids would let the judge share code with the judged."""
    assert forbidden(graph()) == []


def test_no_module_imports_itself_through_others() -> None:
    """Modules in a circle can be understood, tested and moved only together."""
    assert circle(graph()) == []


@pytest.mark.parametrize(
    ("importer", "imported"),
    [
        ("toolchain.registry", "quantize.lower"),
        ("toolchain.ir.net", "app.compile"),
        ("sim.process", "targets.c.target"),
        ("sim.process", "quantize.lower"),
        ("rtl.shell", "targets.rtl.emit"),
        ("targets.c.target", "sim.process"),
        ("targets.c.target", "toolchain.golden.interpreter"),
        ("rtl.shell", "toolchain.golden"),
        ("targets.c.target", "toolchain.reference.network"),
    ],
)
def test_a_forbidden_import_is_found(importer: str, imported: str) -> None:
    """The law above could otherwise not fail."""
    mutant = deepcopy(graph())
    pair = (f"eqcompile.{importer}", f"eqcompile.{imported}")
    mutant.add_import(importer=pair[0], imported=pair[1])
    assert " -> ".join(pair) in forbidden(mutant)


def test_a_circle_is_found() -> None:
    """The law above could otherwise not fail."""
    mutant = deepcopy(graph())
    mutant.add_import(importer="eqcompile.toolchain.diagnostics", imported="eqcompile.toolchain.registry")
    assert circle(mutant)


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


def test_decisions_have_numbers_of_their_own() -> None:
    """Texts refer to a record by its number, which stands in its name and its title."""
    numbers = []
    for path in sorted((ROOT / "toolchain" / "decisions").glob("*.md")):
        number = path.name[:4]
        assert path.read_text(encoding="utf-8").startswith(f"# {number}")
        numbers.append(number)
    assert sorted(set(numbers)) == numbers
