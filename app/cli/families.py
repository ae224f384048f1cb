"""`eqcompile families`: the classes of network that can be imported, and their settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path

from eqcompile.toolchain import registry
from eqcompile.toolchain.diagnostics import ArtifactError, Diagnostic, UsageError
from eqcompile.toolchain.importers.family import Family

from .console import Parser, Reply
from .documents import FamilyDocument, SettingDocument
from .show import table

__all__ = ["command", "describe"]


def command(argv: Sequence[str]) -> Reply:
    """List every registered family with the settings that a file may not hold, or write the template of one."""
    parser = Parser(
        prog="eqcompile families",
        description="List the classes of network that can be imported, the settings that a file may not hold, and the "
        "classes that compute the same under another name.",
        examples="  eqcompile families --json\n  eqcompile families --template my_net.py",
    )
    parser.add_argument("--template", type=Path, metavar="FILE.py", help="write a family of your own to change")
    namespace = parser.parse_all(argv)
    if namespace.template is not None:
        return _write_template(namespace.template)
    loaded = registry.load_all("families", Family)
    rows = [describe(f) for primary in loaded.entries.values() for f in (primary, *primary.twins)]
    text = table(
        ["family", "settings", "summary"],
        [
            [
                r["family"],
                ", ".join(f"{s['name']}={s['default']}" for s in r["settings"]) or "none",
                f"the same as {r['same_as']}" if r["same_as"] else r["summary"],
            ]
            for r in rows
        ],
    )
    lines = [f"unavailable: {u.name} ({u.entry_point}): {u.reason}" for u in loaded.unavailable]
    document = {"families": rows, "unavailable": [asdict(u) for u in loaded.unavailable]}
    return Reply(document, "\n".join([text, *lines]))


def _write_template(path: Path) -> Reply:
    """Write a module with one family that imports as it is; it never replaces a file."""
    if path.suffix != ".py" or not path.stem.isidentifier():
        what = f"{path.name!r} is no name of a Python module, as my_net.py"
        raise UsageError(Diagnostic("usage", what, "--template"))
    template = files(__package__).joinpath("family.py.tmpl").read_text(encoding="utf-8")
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(template.replace("$module", path.stem))
    except FileExistsError as error:
        what = "the output exists already"
        raise ArtifactError(Diagnostic("output-exists", what, str(path), "choose another name")) from error
    except OSError as error:
        raise ArtifactError(
            Diagnostic("output-not-writable", f"cannot write: {error.strerror}", str(path), "choose another name")
        ) from error
    return Reply({"template": str(path)}, f"{path} written; its first lines say how to install it")


def describe(family: Family) -> FamilyDocument:
    """A family as JSON values; a default of null must be given."""
    settings: list[SettingDocument] = [{"name": s.name, "default": s.default, "doc": s.doc} for s in family.settings]
    return {
        "family": family.key,
        "summary": family.summary,
        "settings": settings,
        "same_as": family.same_as,
        "offer": family.offer,
    }
