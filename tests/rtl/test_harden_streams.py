"""What a hardened core offers while it gives up a run: the rules of AXI4-Stream hold whatever the engine does."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import rtl_mutants
from rtl_hardened import Built, Driven, plain
from rtl_mutant import Mutant
from rtl_proof import STREAM, prove

from eqcompile.rtl.harden.mechanisms import FLAGS
from eqcompile.rtl.serial.options import Serial
from eqcompile.rtl.verilog import emit_verilog

TAKES_BACK = Mutant("an offer is taken back", "shell", "holding.eq(self.stalled)", "holding.eq(0)")


def given_up_while_a_beat_waits(beat: int, monkeypatch: pytest.MonkeyPatch) -> tuple[dict[str, Any], Built]:
    """A sequencer that is lost while beat number `beat` of the first result waits for its reader, who comes later."""
    built = Built(("safe-fsm",), monkeypatch)
    taken, waited = 0, 0

    def upset(ctx: Any, clock: int) -> None:
        nonlocal taken, waited
        offered, reading = ctx.get(built.shell.m_axis_tvalid), ctx.get(built.shell.m_axis_tready)
        taken += int(offered and reading)
        waited += int(offered and not reading)
        if offered and waited == 5:
            ctx.set(built.core.phase, (1 << len(built.core.phase)) - 1)

    return Driven(built.shell).run(built.frames, upset, reads=lambda clock: taken < beat or waited >= 20), built


@pytest.mark.parametrize("beat", [0, 1, 2])
def test_an_offered_beat_stays_when_the_run_is_given_up(beat: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A DMA that saw TVALID fall, or another TDATA, has lost a beat or has one twice."""
    results, built = given_up_while_a_beat_waits(beat, monkeypatch)
    (codes, made), (want, ticks) = results["results"][0], built.want[0]
    assert results["FAULTS"] == 1 << FLAGS.index("safe-fsm")
    # What was offered is right, and leaves; the rest is zeros, and says that it is no result.
    assert codes == want[: beat + 1] + [0] * (len(want) - beat - 1)
    assert made == (ticks if beat == len(want) - 1 else 0)
    assert results["results"][1:] == built.want[1:]


def test_a_core_that_takes_an_offer_back_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above could otherwise not fail."""
    with (
        rtl_mutants.mutated(TAKES_BACK),
        pytest.raises(AssertionError, match=r"an offered beat \(1, .* became \(0, "),
    ):
        given_up_while_a_beat_waits(1, monkeypatch)


@pytest.mark.simulator
def test_offers_stay_proved_by_induction(tmp_path: Path) -> None:
    """From any state of all registers, whatever the engine, the guard and the host do; the mutant is refuted."""
    for status, mutant in {"PASS": None, "FAIL": TAKES_BACK}.items():
        with rtl_mutants.mutated(mutant) if mutant else nullcontext():
            from eqcompile.targets.rtl.emit import shell_of

            text = emit_verilog(
                shell_of(plain(), Serial(lanes=2, harden="watchdog,safe-fsm"), trace=False), name="core"
            )
        folder = tmp_path / status
        folder.mkdir()
        verdict = prove(text, folder, STREAM)
        assert verdict.status == status, verdict.log[-2000:]
