"""Every family against what the original classes computed: trained weights, float64 outputs and final states."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zoo_classes
from published_nets import NETS, UPDATES

from eqcompile.toolchain.diagnostics import EqcompileError, ImportFileError, UsageError
from eqcompile.toolchain.importers.config import settings_from_config, width_faults
from eqcompile.toolchain.importers.detect import all_families, fit
from eqcompile.toolchain.importers.family import Family, Tensors, normalise
from eqcompile.toolchain.interfaces import FloatRun
from eqcompile.toolchain.ir import EqNet, ops, verify
from eqcompile.toolchain.reference import run_reference

ZOO = Path(__file__).parents[1] / "data" / "zoo"
FAMILIES = all_families()
NAMES = sorted(p.stem for p in ZOO.glob("*.npz"))

WITHOUT_FILE = {
    "models.CHLAutoencoder": "models.ContrastiveHebbianLearning with a decoder that classification does not use",
    "models.FullEqPropLM": "models.CausalTransformerEqProp with another default number of steps and no mask buffer",
}


@dataclass(frozen=True)
class Example:
    name: str
    family: Family
    tensors: Tensors
    settings: Mapping[str, Any]
    meta: Mapping[str, Any]
    x: Any
    out: Any
    states: Mapping[str, Any]

    def net(self, **settings: Any) -> EqNet:
        net = self.family.build(self.tensors, {**self.settings, **settings})
        verify(net)
        return net

    def run(self, net: EqNet) -> FloatRun:
        return run_reference(net, {"x": self.x})

    def worst(self, run: FloatRun) -> float:
        """Largest relative error over the output and every stored state; infinite where shapes differ."""
        (out,) = run.outputs.values()
        pairs = [(out, self.out), *((run.states[k], v) for k, v in self.states.items())]
        return max(relative(a, b) for a, b in pairs)

    @property
    def bound(self) -> float:
        # These ternary nets are chaotic: rounding of the last bit grows from step to step.
        return 1e-6 if self.family.key == "archive.TernaryEqProp" else 1e-9


def relative(found: Any, want: Any) -> float:
    if found.shape != want.shape:
        return np.inf
    return float(np.abs(found - want).max() / max(1.0, np.abs(want).max()))


def example(name: str) -> Example:
    with np.load(ZOO / f"{name}.npz") as file:
        arrays = {k: file[k] for k in file.files}
    meta = json.loads(str(arrays["meta"]))
    family = FAMILIES[meta["family"]]
    stated = settings_from_config(family, meta["config"], meta["forward_kwargs"])
    settings = {s.name: s.default for s in family.settings} | stated | meta["size"]
    weights = {k.removeprefix("weights/"): v for k, v in arrays.items() if k.startswith("weights/")}
    states = {k.removeprefix("states/"): v for k, v in arrays.items() if k.startswith("states/")}
    return Example(name, family, Tensors(name, weights), settings, meta, arrays["x"], arrays["out"], states)


@pytest.mark.parametrize("name", NAMES)
def test_float_reference_equals_original(name: str) -> None:
    """An importer or the interpreter that computes another network than the one that was trained."""
    e = example(name)
    run = e.run(e.net())
    assert e.states, "nothing stored but the output"
    assert e.worst(run) <= e.bound
    ticks = 1 if name == "EqPropAttentionOnlyLM_release" else e.meta["steps"]
    assert run.steps.tolist() == [ticks] * len(e.x)


@pytest.mark.parametrize("name", NAMES)
def test_layout_fits_and_nothing_is_dropped(name: str) -> None:
    """A layout that rejects a good file, or a tensor that is neither read nor declared unused."""
    e = example(name)
    reading = fit(e.family, e.tensors)
    assert (reading.missing, reading.unexpected, reading.faults, reading.complete) == ((), (), (), True)
    assert e.family.read(e.tensors, e.settings).read == reading.read
    assert width_faults(e.net(), e.meta["config"]) == []


SHORTER = {"DeepHebbianChain_release_sn": "chain.4.weight"}
"""The last link of a chain without biases: without it, the file is one of a shorter chain."""


@pytest.mark.parametrize("name", NAMES)
def test_layout_catches_missing_and_foreign_keys(name: str) -> None:
    """A layout so loose that a file with a hole or a foreign tensor passes as the family."""
    e = example(name)
    stranger = {**e.tensors.arrays, "stranger.weight": np.zeros((2, 2))}
    assert fit(e.family, Tensors(name, stranger)).unexpected == ("stranger.weight",)
    for key in fit(e.family, e.tensors).read:
        rest = {stored: a for stored, a in e.tensors.arrays.items() if normalise(stored) not in (key, None)}
        plain = Tensors(name, {normalise(stored): a for stored, a in rest.items()})  # type: ignore[misc]
        reading = fit(e.family, plain)
        assert not reading.fits or reading.faults or key == SHORTER.get(name), f"a file without {key} passes"


def test_every_family_has_a_file() -> None:
    """A family that no trained checkpoint and no module of its class ever checked."""
    checked = {example(n).family.key for n in NAMES} | {case.family for case in zoo_classes.CASES.values()}
    checked |= {net.family for net in NETS.values()} | set(UPDATES)
    alone = {f.key for f in FAMILIES.values() if f.same_as is None and not {f.key, *(t.key for t in f.twins)} & checked}
    assert alone == set(WITHOUT_FILE)
    for family in FAMILIES.values():
        assert "steps" in {s.name for s in family.settings}


OTHER_VALUE: dict[str, Any] = {
    "activation": "relu",
    "adaptive_epsilon": False,
    "alpha": 0.4,
    "buffer_decay": 0.8,
    "coupling_strength": 0.2,
    "damping": 0.2,
    "denoise_steps": 9,
    "dt": 0.09,
    "epsilon": 10.0,
    "frames": True,
    "gamma": 0.4,
    "height": 9,
    "inner_alpha": 0.4,
    "inner_steps": 4,
    "length": 5,
    "num_heads": 2,
    "outer_alpha": 0.4,
    "persistent_nudge_strength": 0.3,
    "pred_weight": 0.2,
    "recirc_decay": 0.8,
    "recirc_strength": 0.1,
    "symmetric": False,
    "threshold": 0.11,
    "toroidal_dims": 3,
    "use_spectral_norm": False,
    "width": 9,
}
SETTLED = "settled bit for bit before the last step"
NO_EFFECT = {
    ("EqPropKernel_archive", "steps"): "stops by its own rule at step 16 of 30",
    ("LazyEqProp_archive_sn", "steps"): SETTLED,
    ("LazyEqProp_release_sn", "steps"): SETTLED,
    ("MomentumEquilibrium_algorithms_nosn", "steps"): "starts where it settles",
    ("TernaryEqProp_release_t0.5", "steps"): "every weight is 0 at this threshold",
}


def other(e: Example, setting: str) -> Any:
    if setting == "steps":
        return e.settings["steps"] - 1 or 2
    value = OTHER_VALUE[setting]
    return (not value) if value == e.settings[setting] else value


CASES = [(n, s.name) for n in NAMES for s in example(n).family.settings]


@pytest.mark.parametrize(("name", "setting"), CASES)
def test_every_setting_matters(name: str, setting: str) -> None:
    """The comparison must fail for another alpha, one step fewer and so on: else it proves nothing about them."""
    e = example(name)
    net = e.net(**{setting: other(e, setting)})
    if setting in ("frames", "height", "length", "width"):
        with pytest.raises(UsageError, match="input-shape"):
            e.run(net)
        return
    error = e.worst(e.run(net))
    feed_forward = setting == "steps" and e.settings["steps"] == 1
    if feed_forward or (name, setting) in NO_EFFECT:
        assert error <= e.bound
    else:
        assert error > e.bound


@pytest.mark.parametrize("name", [n for n in NAMES if any(k.endswith("_u") for k in example(n).tensors.arrays)])
def test_other_spectral_norms_are_caught(name: str) -> None:
    """The deployed weight is over the stored vectors' estimate: neither the exact norm nor the raw weight."""
    e = example(name)
    if e.family.key == "archive.EqPropKernel":
        raw = {k: v for k, v in e.tensors.arrays.items() if not k.startswith("sn_state")}
        bare = replace(e, tensors=Tensors(name, raw))
        assert e.worst(e.run(bare.net(use_spectral_norm=False))) > e.bound
        with pytest.raises(ImportFileError, match=r"no sn_state\.W1_u"):
            bare.net()
        return
    plain: dict[str, Any] = {}
    exact: dict[str, Any] = {}
    for key in e.tensors:
        stored = e.tensors.arrays.get(key)
        original = e.tensors.arrays.get(key.removesuffix(".weight") + ".parametrizations.weight.original")
        plain[key] = original if stored is None else stored
        exact[key] = plain[key]
        if stored is None and original is not None:
            matrix = original.astype(np.float64).reshape(len(original), -1)
            exact[key] = original.astype(np.float64) / np.linalg.svd(matrix, compute_uv=False)[0]
    for arrays in (plain, exact):
        assert e.worst(e.run(replace(e, tensors=Tensors(name, arrays)).net())) > e.bound


CONFUSED = [
    ("LoopedMLP_release_nosn", "models.TernaryEqProp"),
    ("TernaryEqProp_release_t0.13_best", "models.LoopedMLP"),
    ("FeedbackAlignmentEqProp_release", "archive.FeedbackAlignmentEqProp"),
    ("FeedbackAlignmentEqProp_archive", "models.FeedbackAlignmentEqProp"),
    ("ModernEqProp_archive_sn", "archive.TCEP"),
    ("ModernEqProp_archive_sn", "archive.TorEqODEProp"),
    ("TCEP_archive_sn", "archive.ModernEqProp"),
    ("TorEqODEProp_archive_sn", "archive.DiffTorEqProp"),
]


@pytest.mark.parametrize(("name", "wrong"), CONFUSED)
def test_families_with_equal_keys_differ(name: str, wrong: str) -> None:
    """Equal keys and shapes, other networks: the family key must decide, and the comparison must see it."""
    e = example(name)
    family = FAMILIES[wrong]
    assert fit(family, e.tensors).fits
    assumed = {s.name: s.default for s in family.settings} | {"steps": e.settings["steps"]}
    confused = replace(e, family=family, settings=assumed, states={"h": e.states["h"]})
    assert confused.worst(confused.run(confused.net())) > e.bound


@pytest.mark.parametrize("name", ["TernaryEqProp_release_t0.13_best", "TernaryEqProp_archive_t1.5_1layer_best"])
def test_ternary_weights_have_one_magnitude(name: str) -> None:
    """The quantizer keeps a tensor exactly only if its entries are 0 and one magnitude."""
    net = example(name).net()
    ternary = [p for p in net.params if p.name.endswith("_ternary")]
    assert len(ternary) == (3 if "release" in name else 2)
    for p in ternary:
        assert len(set(np.abs(p.value).ravel()) - {0.0}) == 1
        assert "ternarized at" in p.source


def test_ternary_threshold_is_compared_in_the_stored_dtype() -> None:
    """In float64 a stored float32(0.1) is above 0.1; the trained network has it at 0."""
    e = example("TernaryEqProp_release_t0.13_best")
    arrays = dict(e.tensors.arrays)
    arrays["W_in.weight"] = np.full_like(arrays["W_in.weight"], 0.1)
    arrays["W_in.weight"][0, 0] = 0.2
    weight = replace(e, tensors=Tensors("made", arrays)).net(threshold=0.1).param("W_in_ternary")
    assert weight[0, 0] == 1.0
    assert weight.sum() == 1.0


def test_frames_carry_the_state() -> None:
    """A sequence fed as one input after another with a fresh state is another network."""
    e = example("TemporalResonanceEqProp_release_sn")
    net = e.net()
    assert net.schedule.frames
    last = run_reference(replace(net, schedule=replace(net.schedule, frames=False)), {"x": e.x[:, -1]})
    assert e.worst(last) > e.bound


def test_kernel_stops_as_a_batch() -> None:
    """The stop rule looks at the largest step of the batch: a part of the batch may stop elsewhere."""
    e = example("EqPropKernel_archive")
    alone = [int(run_reference(e.net(), {"x": e.x[i : i + 1]}).steps[0]) for i in range(0, 64, 4)]
    assert max(alone) <= 16
    assert min(alone) < 16


def spoiled(name: str, **arrays: Any) -> Example:
    e = example(name)
    return replace(e, tensors=Tensors("spoiled.pt", {**e.tensors.arrays, **arrays}))


@pytest.mark.parametrize(
    ("name", "key", "shape", "code"),
    [
        ("LoopedMLP_release_nosn", "W_rec.weight", (128, 127), "shape-mismatch"),
        ("LoopedMLP_release_nosn", "W_in.bias", (127,), "shape-mismatch"),
        ("LoopedMLP_release_nosn", "W_in.weight", (128,), "shape-mismatch"),
        ("DeepDFAEqProp_release_sn", "layer_norms.1.weight", (63,), "shape-mismatch"),
        ("HomeostaticEqProp_archive", "layer_scales", (4,), "shape-mismatch"),
        ("NeuralCube_archive_sn", "input_projection.weight", (24, 64), "shape-mismatch"),
        ("NeuralCube_release", "neighbor_indices", (125, 26), "shape-mismatch"),
        ("ToroidalMLP_archive_sn", "buffer_gamma", (2,), "shape-mismatch"),
        ("EqPropKernel_archive", "sn_state.W1_u", (255,), "shape-mismatch"),
        ("EqPropDiffusion_release_sn", "denoiser.Head.2.weight", (783, 16), "shape-mismatch"),
        ("ConvEqProp_release_sn", "embed.parametrizations.weight.original", (16, 9), "shape-mismatch"),
        ("HomeostaticEqProp_archive", "layers.7.weight", (64, 64), "missing-layer"),
        ("ContrastiveHebbianLearning_release_sn", "layers.2.weight", (64, 64), "missing-layer"),
    ],
)
def test_misfitting_tensors_are_reported_with_their_key(name: str, key: str, shape: tuple[int, ...], code: str) -> None:
    """A file whose tensors contradict each other must be refused as a file, with both numbers and the key."""
    dtype = np.int64 if key == "neighbor_indices" else np.float32
    e = spoiled(name, **{key: np.ones(shape, dtype)})
    with pytest.raises(ImportFileError) as caught:
        e.net()
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.code == code
    assert "spoiled.pt" in diagnostic.where
    if code == "shape-mismatch":
        assert str(shape[0]) in diagnostic.what


@pytest.mark.parametrize(
    ("name", "settings", "what"),
    [
        ("LoopedMLP_release_sn", {"steps": 0}, "steps is 0"),
        ("LoopedMLP_release_sn", {"steps": True}, "steps is True"),
        ("LoopedMLP_archive_symmetric_sn", {"alpha": 1.5}, "alpha is 1.5"),
        ("LoopedMLP_archive_symmetric_sn", {"alpha": "a"}, "alpha is 'a'"),
        ("LoopedMLP_archive_symmetric_sn", {"symmetric": 1}, "symmetric is 1"),
        ("MSTEP_archive_sn", {"gamma": 0.7}, "gamma is 0.7"),
        ("TransformerEqProp_release", {"num_heads": 5}, "num_heads 5"),
        ("TransformerEqProp_release", {"length": 17}, "length 17"),
        ("ConvEqProp_release_sn", {"height": None}, "height is None"),
        ("MomentumEquilibrium_algorithms_nosn", {"activation": "sine"}, "activation is 'sine'"),
    ],
)
def test_settings_out_of_range_are_refused(name: str, settings: dict[str, Any], what: str) -> None:
    """A setting that the source class cannot have, taken as if it could."""
    with pytest.raises(UsageError) as caught:
        example(name).net(**settings)
    assert what in caught.value.diagnostics[0].what


def test_config_names_become_settings() -> None:
    """Arguments of the call win over those of the class; training arguments are no settings."""
    looped = FAMILIES["models.LoopedMLP"]
    assert settings_from_config(looped, {"max_steps": 25, "lr": 0.1, "hidden_dim": 3}, {}) == {"steps": 25}
    assert settings_from_config(looped, {"max_steps": 25}, {"steps": 12}) == {"steps": 12}
    assert settings_from_config(looped, {"max_steps": None}, None) == {}
    resonance = FAMILIES["models.TemporalResonanceEqProp"]
    want = {"steps": 5, "alpha": 0.3, "frames": True}
    assert settings_from_config(resonance, {"alpha": 0.3}, {"steps_per_frame": 5}) == want
    homeostatic = FAMILIES["archive.HomeostaticEqProp"]
    with pytest.raises(EqcompileError, match="apply_homeostasis"):
        settings_from_config(homeostatic, {}, {"apply_homeostasis": True})


@pytest.mark.parametrize(
    ("name", "config", "numbers"),
    [
        ("LoopedMLP_release_sn", {"input_dim": 63}, ("63", "64")),
        ("LoopedMLP_release_sn", {"hidden_dim": 64}, ("64", "128")),
        ("LoopedMLP_release_sn", {"output_dim": 11}, ("11", "10")),
        ("TransformerEqProp_release", {"vocab_size": 18}, ("18", "17")),
        ("ConvEqProp_release_sn", {"hidden_channels": 32}, ("32", "16")),
        ("ConvEqProp_release_sn", {"input_channels": 3}, ("3", "1")),
    ],
)
def test_contradicting_widths_are_reported(name: str, config: dict[str, int], numbers: tuple[str, str]) -> None:
    """Weights of one network with the configuration of another."""
    (fault,) = width_faults(example(name).net(), config)
    assert all(n in fault.what for n in numbers)


def test_circular_units_wrap() -> None:
    """The option `toroidal_dims` puts the first units, and only those, on a circle."""
    e = example("TorEqODEProp_archive_sn")
    h = e.run(e.net(toroidal_dims=3)).states["h"]
    assert (h[:, :3] >= 0.0).all()
    assert (h[:, :3] < 2 * 3.14159).all()
    assert (h[:, 3:] < 0.0).any()


def test_prediction_is_optional() -> None:
    """A one-layer predictive net has no predictor: its error term is absent, not zero weights."""
    e = example("TPEqProp_archive_sn")
    arrays = {k: v for k, v in e.tensors.arrays.items() if "predictors" not in k and "layer_norms.1" not in k}
    single = replace(e, tensors=Tensors("single", arrays))
    assert fit(e.family, single.tensors).fits
    modern = replace(single, family=FAMILIES["archive.ModernEqProp"])
    assert np.array_equal(single.run(single.net()).states["h"], modern.run(modern.net()).states["h"])
    assert not any(isinstance(op, ops.Sub) for op in single.net().step)
