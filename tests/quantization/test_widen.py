"""Precision that is added until enough labels of the float net are kept."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from quantize_nets import inputs_of, loop

from eqcompile.app.cli.main import main
from eqcompile.quantization.lower import lower
from eqcompile.quantization.search import search
from eqcompile.quantization.widen import Widening, WideTrial, halves, widen
from eqcompile.toolchain.agreement import labels_agreeing
from eqcompile.toolchain.diagnostics import UsageError
from eqcompile.toolchain.interfaces import QuantizeOptions
from eqcompile.toolchain.ir import EqNet
from eqcompile.toolchain.kept_labels import kept_labels
from eqcompile.toolchain.reference import run_reference

EXAMPLES = Path(__file__).parents[2] / "examples"
LOOPED = EXAMPLES / "checkpoints" / "digits_looped.pt"
CALIBRATION = EXAMPLES / "data" / "digits_calibration.npz"


def slow(seed: int = 0) -> tuple[EqNet, dict[str, NDArray[Any]]]:
    """A state that closes a twentieth of its gap a tick, and inputs."""
    made = loop(np.random.default_rng(seed), alpha=0.05, steps=60, gain=0.9).net
    made = replace(made, outputs=(replace(made.outputs[0], kind="classes"),))
    return made, inputs_of(np.random.default_rng(seed + 1), made, 200)


def widened(options: QuantizeOptions, target: float, seed: int = 0) -> Widening:
    made, x = slow(seed)
    first, second = halves(x)
    return widen(made, options, calibration=first, inputs=second, target=target)


def test_nothing_is_added_where_labels_are_kept() -> None:
    """A net that is good enough must stay as it was asked for."""
    asked = QuantizeOptions(state_bits=14, guard_bits=4, input_bits=14)
    found = widened(asked, 0.5)
    assert found.options == asked
    assert [t.changed for t in found.trials] == [""]
    assert found.met
    assert found.final == found.trials[0]


def test_guard_bits_come_first() -> None:
    """Where the rounding of a slow average costs the labels, its guard bits are all that is added."""
    found = widened(QuantizeOptions(state_bits=6), 0.9)
    assert found.trials[0].equal < found.required * found.trials[0].labels
    assert (found.options.guard_bits > 0, dict(found.options.states), dict(found.shares)) == (True, {}, {})
    assert {t.changed for t in found.trials[1:]} == {"guard bits"}
    assert found.final.equal >= found.required * found.final.labels


def test_widths_come_where_guard_bits_do_not_do() -> None:
    """The state gets bits, no more than are needed: one bit less misses. The share says that its rounding was it."""
    made, x = slow()
    first, second = halves(x)
    asked = QuantizeOptions(state_bits=3, input_bits=12)
    found = widen(made, asked, calibration=first, inputs=second, target=0.9)
    [(name, bits)] = found.options.states.items()
    assert (name, found.met, dict(found.shares)) == ("h", True, {"h": 1.0})
    reference = run_reference(made, second)

    def equal(options: QuantizeOptions) -> int:
        return labels_agreeing(lower(made, options, calibration=first).net, second, reference)[0]

    assert equal(found.options) == found.final.equal
    assert equal(replace(found.options, states={"h": bits - 1})) < found.required * found.final.labels


def test_a_search_ends_after_few_trials() -> None:
    """Bits were given back one at a time, which took hours where a net has many values that weights read."""
    made, x = slow()
    first, second = halves(x)
    result = widen(made, QuantizeOptions(state_bits=2, input_bits=14), calibration=first, inputs=second, target=0.97)
    (bits,) = result.options.states.values()
    assert bits > 4
    taken_back = [t.bits for t in result.trials if t.changed == "h"][1:]
    assert len(taken_back) <= 4  # of eight bits
    assert result.final.share >= result.required
    narrower = [t for t in result.trials if t.changed == "h" and t.bits == bits - 1]
    assert [t.share >= result.required for t in narrower] == [False]


def test_a_search_is_bounded_and_says_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Progress had no end, and nothing bounded the trials that take bits back: nets of many values were given up on."""
    made, x = slow()
    first, second = halves(x)
    calls: list[tuple[int, int]] = []

    def found(most: int) -> Widening:
        monkeypatch.setattr("eqcompile.quantization.widen._MOST_NARROWING", most)
        calls.clear()
        return widen(
            made,
            QuantizeOptions(state_bits=2, input_bits=14),
            calibration=first,
            inputs=second,
            target=0.97,
            progress=lambda done, total: calls.append((done, total)),
        )

    free, bounded = found(24), found(1)
    assert free.met
    assert bounded.met
    assert len(bounded.trials) < len(free.trials)
    assert bounded.options.states["h"] > free.options.states["h"]
    assert [done for done, _ in calls] == [*range(1, len(bounded.trials) + 1)]
    assert calls[-1][0] <= calls[-1][1] == calls[0][1]


def test_the_same_data_give_the_same_widths() -> None:
    """Nothing is drawn at random: two runs make the same trials."""
    assert widened(QuantizeOptions(state_bits=3), 0.95) == widened(QuantizeOptions(state_bits=3), 0.95)


def test_a_miss_is_said_with_the_most_that_was_reached() -> None:
    """Weights of two bits lose labels that no width of a state brings back."""
    found = widened(QuantizeOptions(state_bits=4, weights="ternary"), 1.0)
    assert not found.met
    assert found.final.equal == max(t.equal for t in found.trials)
    assert found.required == found.final.equal / found.final.labels


def test_where_labels_do_not_tell_widths_apart_the_error_does() -> None:
    """A convolutional net kept 197 of 200 labels at every width, so that all bits were given back, and 322 of 328 other
    labels, where two bits more a state keep 325. Here labels are counted on two samples."""
    made, x = slow()
    first, second = halves(x)
    few = {name: data[:2] for name, data in second.items()}
    asked = QuantizeOptions(state_bits=3, weights="ternary", input_bits=12)
    found = widen(made, asked, calibration=first, inputs=few, target=1.0)
    assert not found.met
    alike = [t for t in found.trials if (t.labels, t.equal) == (2, found.final.equal)]
    assert found.final.error <= 1.25 * min(t.error for t in alike) < max(t.error for t in alike)
    reference = run_reference(made, second)

    def equal(options: QuantizeOptions) -> int:
        return labels_agreeing(lower(made, options, calibration=first).net, second, reference)[0]

    assert found.options.states["h"] > 3
    assert equal(found.options) > equal(replace(found.options, states={}))


def test_a_lowering_keeps_labels_and_says_how() -> None:
    """The net is that of the widths in its row, its ranges of one half of the samples, its labels of all: with fewer
    labels, one that flips is a larger share."""
    made, x = slow()
    lowered = lower(made, QuantizeOptions(state_bits=4, keep_labels=0.9), calibration=x)
    kept = kept_labels(lowered.choices)
    assert kept is not None
    assert kept.met
    assert kept.equal > kept.equal_before
    options = QuantizeOptions(state_bits=4, guard_bits=kept.guard_bits, states=kept.states)
    first, _ = halves(x)
    assert lower(made, options, calibration=first).net == lowered.net
    assert kept.labels == len(x["x"])
    assert labels_agreeing(lowered.net, x, run_reference(made, x)) == (kept.equal, kept.labels)


def test_labels_need_samples_classes_and_no_contraction() -> None:
    """What cannot be counted is refused, before any work."""
    made, x = slow()
    with pytest.raises(UsageError, match="no samples to count labels on"):
        lower(made, QuantizeOptions(keep_labels=0.9), calibration=None)
    values = replace(made, outputs=(replace(made.outputs[0], kind="values"),))
    with pytest.raises(UsageError, match="no labels to keep"):
        lower(values, QuantizeOptions(keep_labels=0.9), calibration=x)
    with pytest.raises(UsageError, match="together"):
        lower(made, QuantizeOptions(keep_labels=0.9, max_lipschitz=0.9), calibration=x)


def test_the_search_widens_before_it_narrows() -> None:
    """A start that misses the target was refused; now it is widened, and the result lowers from what is reported."""
    made, x = slow()
    found = search(made, QuantizeOptions(state_bits=4), calibration=None, inputs=x, target=0.9)
    assert found.widening is not None
    assert found.options == found.widening.options
    assert found.trials[0].agreement >= 0.9
    options = replace(
        found.options, widths=found.best.kinds, state_bits=found.best.state_bits, input_bits=found.best.input_bits
    )
    first, _ = halves(x)
    assert lower(made, options, calibration=first).net.digest == found.validation.digest
    assert found.best.bits <= found.trials[0].bits


@pytest.mark.slow
def test_the_command_says_what_it_chose(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The widths, the labels before and after, and exit code 9 on a miss, whose artifact is written all the same."""
    argv = [str(LOOPED), "--target", "numpy", "--calibrate", str(CALIBRATION), "--no-verify", "--state-bits", "2"]
    assert main([*argv, "-o", str(tmp_path / "a"), "--keep-labels", "98%"]) == 0
    text = capsys.readouterr().out
    assert "labels kept on the calibration samples" in text
    assert "meets the target 0.98" in text
    assert "chosen: --states=" in text
    manifest = json.loads((tmp_path / "a" / "manifest.json").read_text())
    assert manifest["source"]["quantize"]["keep_labels"] == 0.98
    assert manifest["interface"]["states"][0]["format"] != "i2"
    miss = [*argv, "-o", str(tmp_path / "b"), "--weights", "ternary", "--input-bits", "2", "--keep-labels", "1"]
    assert main(miss) == 9
    text = capsys.readouterr().out
    assert "MISSES the target 1" in text
    assert text.startswith("WARNING: ")
    assert (tmp_path / "b" / "manifest.json").is_file()


@pytest.mark.parametrize(("equal", "labels"), [(7, 25), (14, 50), (323, 328), (99, 100)])
def test_a_share_that_is_reached_exactly_is_met(equal: int, labels: int) -> None:
    """Seven of 25 times 25 is a rounding above 7: what was reached was then sought again, and called missed."""
    final = WideTrial("h", 8, equal, labels, 0.0)
    assert Widening(QuantizeOptions(), equal / labels, 1.0, (final,), final, {}).met
    assert not Widening(QuantizeOptions(), (equal + 1) / labels, 1.0, (final,), final, {}).met
