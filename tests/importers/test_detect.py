"""Families and settings: found by evidence or asked for, never guessed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eqcompile.toolchain.diagnostics import EqcompileError, ImportFileError, PluginError, UsageError
from eqcompile.toolchain.importers.detect import detect, fit
from eqcompile.toolchain.importers.families import Builder
from eqcompile.toolchain.importers.families import family as declared
from eqcompile.toolchain.importers.family import Family, Setting, Tensors
from eqcompile.toolchain.importers.files.config_file import read_config
from eqcompile.toolchain.importers.settings import Resolved, resolve
from eqcompile.toolchain.interfaces import Assumption


def family(
    key: str, *required: str, summary: str = "a loop", settings: tuple[Setting, ...] = (), **more: Any
) -> Family:
    """A family that reads `required` (`{}`: the number of a layer), `b.bias` if it is there, and nothing of `old`."""

    def compose(b: Builder) -> None:
        for template in required:
            for i in range(b.count(template) if "{}" in template else 1):
                b.find(template.format(i))
        if b.has("b.bias"):
            b.find("b.bias")

    return declared(key, summary, *settings, unused=(r"old\.\d+\.weight",), **more)(compose)


LOOP = family("models.Loop", "a.weight", summary="an undamped loop")
TERNARY = family("models.Ternary", "a.weight", summary="a loop of ternary weights")
STACK = family("archive.Loop", "layers.{}.weight", "Head.weight", summary="a stack of layers", twins=("other.Loop",))
KNOWN = {f.key: f for f in (LOOP, TERNARY, STACK)}


def tensors(*keys: str) -> Tensors:
    return Tensors("net.pt", {key: np.zeros((2, 3)) for key in keys})


def refusal(*keys: str, **options: Any) -> EqcompileError:
    with pytest.raises((ImportFileError, UsageError)) as caught:
        detect(tensors(*keys), known=KNOWN, **options)
    return caught.value


def test_the_only_fitting_layout_is_taken() -> None:
    """Optional and unused keys belong to a layout; a foreign key takes a file out of it."""
    assert detect(tensors("layers.0.weight", "layers.1.weight", "Head.weight"), known=KNOWN) is STACK
    assert detect(tensors("layers.0.weight", "Head.weight", "b.bias", "old.3.weight"), known=KNOWN) is STACK
    assert fit(STACK, tensors("layers.0.weight", "Head.weight", "Head.weight.more")).unexpected == ("Head.weight.more",)
    assert fit(STACK, tensors("layers.x.weight", "Head.weight")).missing == ("layers.N.weight",)
    assert fit(STACK, tensors("layers.0.weight", "layers.2.weight", "Head.weight")).faults


def test_a_spectral_norm_decides_between_families_with_equal_keys() -> None:
    """A class without spectral norm cannot have written singular vectors: then the file does decide."""
    plain = family("models.Ternary", "a.weight", spectral_norm=False)
    known = {"models.Loop": LOOP, "models.Ternary": plain}
    weight, shapes = "a.parametrizations.weight", {"original": (2, 3), "0._u": (2,), "0._v": (3,)}
    normed = Tensors("net.pt", {f"{weight}.{part}": np.ones(shape) for part, shape in shapes.items()})
    assert detect(normed, known=known) is LOOP
    with pytest.raises(ImportFileError, match=r"a\.parametrizations\.weight\.original \[2, 3\] is no part of models.T"):
        detect(normed, "models.Ternary", known=known)
    with pytest.raises(ImportFileError, match="fit 2 families"):
        detect(tensors("a.weight"), known=known)


def test_families_that_compute_the_same_are_no_choice() -> None:
    """Asking the user to choose between two names of one function would be noise."""
    (twin,) = STACK.twins
    known = {"archive.Loop": STACK, "other.Loop": twin}
    assert detect(tensors("layers.0.weight", "Head.weight"), known=known) is STACK
    assert detect(tensors("layers.0.weight", "Head.weight"), "other.Loop", known=known) is twin


def test_several_fitting_families_are_listed_with_what_they_compute() -> None:
    """Equal keys, different networks: a guess would compile the wrong one without any sign of it."""
    error = refusal("a.weight")
    (found,) = error.diagnostics
    assert isinstance(error, ImportFileError)
    assert found.code == "family-ambiguous"
    assert "--family models.Loop  (an undamped loop)" in found.hint
    assert "--family models.Ternary  (a loop of ternary weights)" in found.hint
    assert "archive.Loop" not in found.hint


def test_the_user_decides_by_key_or_by_class_name() -> None:
    """A bare class name is enough where one package's variant fits the keys."""
    assert detect(tensors("a.weight"), "models.Ternary", known=KNOWN) is TERNARY
    assert detect(tensors("a.weight"), "Ternary", known=KNOWN) is TERNARY
    assert detect(tensors("a.weight"), "Loop", known=KNOWN) is LOOP
    assert detect(tensors("layers.0.weight", "Head.weight"), "Loop", known=KNOWN) is STACK


def test_an_offer_says_what_differs() -> None:
    """Two names and one summary each are no help where only the settings or an alias is known to the user."""
    more = family("models.More", "layers.{}.weight", "Head.weight", settings=(Setting("height", None, "rows"),))
    with pytest.raises(ImportFileError) as caught:
        detect(tensors("layers.0.weight", "Head.weight"), known=KNOWN | {"models.More": more})
    hint = caught.value.diagnostics[0].hint
    assert "--family models.More  (a loop); settings steps=30, height" in hint
    assert "--family archive.Loop  (a stack of layers); settings steps=30; other names other.Loop" in hint


def test_a_class_name_of_several_fitting_variants_is_ambiguous() -> None:
    """Two packages may share class, keys and shapes, and still compute different things."""
    known = KNOWN | {"ET.Loop": family("ET.Loop", "a.weight")}
    with pytest.raises(ImportFileError, match=r"--family ET.Loop"):
        detect(tensors("a.weight"), "Loop", known=known)


def test_a_class_name_of_no_fitting_variant_shows_each() -> None:
    """The differences from every variant are the user's way to see which file this is."""
    text = str(refusal("z.weight", name="Loop"))
    assert "the file has no tensor a.weight, models.Loop needs it" in text
    assert "the file has no tensor layers.N.weight, archive.Loop needs it" in text


def test_what_the_file_states_is_taken() -> None:
    """A file that names its class needs no option, and an agreeing one does no harm."""
    assert detect(tensors("a.weight"), stated="models.Ternary", known=KNOWN) is TERNARY
    assert detect(tensors("a.weight"), stated="Ternary", known=KNOWN) is TERNARY
    assert detect(tensors("a.weight"), "Ternary", stated="models.Ternary", known=KNOWN) is TERNARY
    assert detect(tensors("a.weight"), "models.Loop", stated="models.Loop", known=KNOWN) is LOOP


def test_a_contradiction_of_user_and_file_is_refused() -> None:
    """The option must not silently override what the file knows of itself."""
    error = refusal("a.weight", name="models.Loop", stated="models.Ternary")
    assert isinstance(error, UsageError)
    assert "--family says models.Loop, the file says that it is models.Ternary" in str(error)


def test_an_alias_contradicts_no_name_of_its_network() -> None:
    """A file that names the class of one package, read by the same class of another, is no contradiction."""
    (twin,) = STACK.twins
    known = KNOWN | {twin.key: twin}
    keys = ("layers.0.weight", "Head.weight")
    assert detect(tensors(*keys), twin.key, stated=STACK.key, known=known) is twin
    assert detect(tensors(*keys), STACK.key, stated=twin.key, known=known) is STACK
    with pytest.raises(UsageError, match="--family says other.Loop, the file says that it is models.Loop"):
        detect(tensors("a.weight"), twin.key, stated="models.Loop", known=known)


def test_unknown_families_name_the_nearest() -> None:
    """A typing error is the usual cause. A file of a class nobody knows can still be mapped by the user."""
    error = refusal("a.weight", name="models.Ternery")
    assert isinstance(error, UsageError)
    assert "did you mean 'models.Ternary'?" in str(error)
    stated = refusal("a.weight", stated="mine.Net")
    assert isinstance(stated, ImportFileError)
    assert "'mine.Net', which is no known family" in str(stated)
    assert detect(tensors("a.weight"), "models.Loop", stated="mine.Net", known=KNOWN) is LOOP


def test_a_stated_family_whose_layout_differs_is_refused() -> None:
    """Neither the file's word nor the user's turns other tensors into this network."""
    for options in ({"name": "archive.Loop"}, {"stated": "archive.Loop"}):
        text = str(refusal("layers.0.weight", "head.weight", **options))
        assert "the file has no tensor Head.weight, archive.Loop needs it" in text
        assert "the file has 'head.weight'" in text
        assert "the tensor head.weight [2, 3] is no part of archive.Loop" in text


def test_no_fit_names_the_nearest_family_and_every_difference() -> None:
    """All differences in one run, shortened when there are very many."""
    error = refusal("layers.0.weight", "head.weight", "extra.one")
    assert error.diagnostics[0].what.startswith("the 3 tensors fit none of 3 families; the nearest is archive.Loop")
    assert [d.code for d in error.diagnostics[1:]] == ["missing-tensor", "unexpected-tensor", "unexpected-tensor"]
    many = refusal(*(f"x{i}.weight" for i in range(50)))
    assert len(many.diagnostics) < 15
    assert "more differences are not shown" in str(many)


def test_families_that_ask_for_the_same_tensors_are_told_by_shapes() -> None:
    """A family whose tensors do not fit each other is no choice; where all have faults, all are named."""

    def square(b: Builder) -> None:
        b.demand("a.weight", len(set(b.matrix("a.weight").shape)) == 1, "a.weight must be square")

    known = {"models.Loop": LOOP, "models.Square": declared("models.Square", "a square loop")(square)}
    assert detect(tensors("a.weight"), known=known) is LOOP
    with pytest.raises(ImportFileError, match="fit 2 families"):
        detect(Tensors("net.pt", {"a.weight": np.zeros((3, 3))}), known=known)


def test_settings_of_the_user_decide_which_tensors_are_needed() -> None:
    """A file without what only one setting needs is of the family under the other setting."""

    def compose(b: Builder) -> None:
        b.find("a.weight")
        if b.flag("normed"):
            b.find("norm.weight")

    known = {"models.Loop": declared("models.Loop", "a loop", Setting("normed", True, "normed"))(compose)}
    with pytest.raises(ImportFileError, match=r"no tensor norm\.weight"):
        detect(tensors("a.weight"), known=known)
    assert detect(tensors("a.weight"), known=known, settings={"normed": "false"}).key == "models.Loop"


def test_without_installed_families_the_remedy_is_named() -> None:
    """A broken installation must not read as a broken file."""
    with pytest.raises(PluginError, match="install eqcompile again"):
        detect(tensors("a.weight"), known={})


SETTINGS = (
    Setting("steps", 30, "relaxation steps"),
    Setting("alpha", 0.5, "damping"),
    Setting("symmetric", False, "symmetric coupling"),
    Setting("activation", "silu", "activation"),
    Setting("kernel", (3, 3), "kernel"),
    Setting("height", None, "rows of the image"),
    Setting("width", None, "columns of the image"),
)
FULL = family("models.Full", "a.weight", settings=SETTINGS)


def settled(**sources: Mapping[str, Any]) -> Resolved:
    empty: dict[str, Mapping[str, Any]] = {"user": {}, "config": {}, "stated": {}}
    return resolve(FULL, **(empty | sources), label="net.pt")  # type: ignore[arg-type]


def test_settings_come_from_user_then_config_then_file_then_default() -> None:
    """The order decides which network is compiled; what nobody stated is listed as an assumption."""
    found = settled(
        user={"steps": "10", "height": "8"},
        config={"steps": 20, "alpha": 0.25, "width": 6},
        stated={"steps": 40, "alpha": 0.75, "symmetric": True},
    )
    assert found.given == {"steps": 10, "alpha": 0.25, "symmetric": True, "height": 8, "width": 6}
    assert found.values == {**found.given, "activation": "silu", "kernel": (3, 3)}
    assert found.assumed == (
        Assumption("activation", "silu", "default of models.Full"),
        Assumption("kernel", (3, 3), "default of models.Full"),
    )


def test_settings_without_default_are_all_asked_for() -> None:
    """One run tells every option that is needed."""
    with pytest.raises(UsageError) as caught:
        settled()
    (found,) = caught.value.diagnostics
    assert "models.Full needs height, width" in found.what
    assert "--set height=8 --set width=8  (height: rows of the image" in found.hint
    assert "--set width=8" in found.hint


def test_faults_of_settings_come_together() -> None:
    """Unknown names with the nearest, wrong types with what they must be, missing ones: in one run."""
    with pytest.raises(UsageError) as caught:
        settled(
            user={"step": "3", "steps": "many", "symmetric": "1", "alpha": "nan"},
            config={"kernel": 3},
            stated={"activation": 5, "height": 10**30},
        )
    text = str(caught.value)
    assert "has no setting 'step'" in text
    assert "did you mean 'steps'?" in text
    assert "steps is 'many', must be an integer" in text
    assert "symmetric is '1', must be true or false" in text
    assert "alpha is 'nan', must be a number" in text
    assert "kernel is 3, must be a list" in text
    assert "activation is 5, must be a word" in text
    assert "height is an integer of 100 bits" in text
    assert "needs width," in text
    assert len(caught.value.diagnostics) == 8


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("steps", "7", 7),
        ("alpha", "1", 1.0),
        ("alpha", "1e-1", 0.1),
        ("alpha", ".1", 0.1),
        ("alpha", "1.", 1.0),
        ("alpha", "+.5e-1", 0.05),
        ("symmetric", "True", True),
        ("symmetric", "false", False),
        ("activation", "tanh", "tanh"),
        ("kernel", "5,5", (5, 5)),
        ("kernel", "[5, 7]", (5, 7)),
        ("height", "8", 8),
    ],
)
def test_command_line_values_take_the_type_of_the_default(name: str, text: str, value: object) -> None:
    """`--set` gives strings; a value of another type would change the network or crash a build."""
    found = settled(user={"height": "1", "width": "1", name: text}).values[name]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(("name", "value"), [("steps", 7.5), ("steps", True), ("alpha", "0.5"), ("symmetric", 1)])
def test_values_from_files_are_not_converted(name: str, value: object) -> None:
    """A config with "0.5" in quotes or a boolean for a count is a mistake, not a number."""
    with pytest.raises(UsageError, match=f"{name} is .*, must be"):
        settled(config={name: value, "height": 1, "width": 1})


def test_numpy_scalars_are_numbers() -> None:
    """The API is called from NumPy code."""
    found = settled(user={"steps": np.int64(4), "alpha": np.float32(0.5), "height": 1, "width": 1}).values
    assert (found["steps"], type(found["steps"]), found["alpha"]) == (4, int, 0.5)


def test_config_files(tmp_path: Path) -> None:
    """JSON and TOML give the same settings; anything else has a message of its own."""
    (tmp_path / "a.json").write_text('{"steps": 4, "kernel": [1, 2]}')
    (tmp_path / "a.toml").write_text("steps = 4\nkernel = [1, 2]\n")
    assert read_config(tmp_path / "a.json") == read_config(tmp_path / "a.toml") == {"steps": 4, "kernel": [1, 2]}
    bad = {
        "x.json": ("{", "not valid JSON"),
        "x.toml": ("=", "not valid TOML"),
        "list.json": ("[1]", "holds a list, must be a table"),
        "x.yaml": ("a: 1", "ends in '.yaml', must be .json or .toml"),
        "deep.json": ("[" * 100_000, "not valid JSON"),
        "big.json": (" " * (2 << 20), "has 2097152 bytes, more than 1048576"),
    }
    for name, (content, text) in bad.items():
        (tmp_path / name).write_text(content)
        with pytest.raises(UsageError, match=text) as caught:
            read_config(tmp_path / name)
        assert ("not valid" in str(caught.value)) == ("not valid" in text)
    with pytest.raises(UsageError, match="No such file"):
        read_config(tmp_path / "absent.json")
