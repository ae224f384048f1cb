"""What place and route says of itself while it runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from eqcompile.targets.rtl.synth import tools as synth_tools
from eqcompile.targets.rtl.synth.advance import advance
from eqcompile.targets.rtl.synth.flow import Workshop, within
from eqcompile.targets.rtl.synth.parts import PARTS
from eqcompile.targets.rtl.synth.tools import Deadline, SynthesisError

LOG = """\
Info: Packing carries...
Info:     at initial placer iter 3, wirelen = 987
Info: Running main analytical placer, max placement attempts per cell = 161312.
Info:     at iteration #6, type ALL: wirelen solved = 1420, spread = 12285, legal = 17849; time = 0.02s
Info: Running simulated annealing placer for refinement.
Info:   at iteration #49: temp = 0.000000, timing cost = 254, wirelen = 3276
Info: Routing..
Info: Setting up routing queue.
Info: Routing 2778 arcs.
Info:            |   (re-)routed arcs  |   delta    | remaining|       time spent     |
Info:    IterCnt |  w/ripup   wo/ripup |  w/r  wo/r |      arcs| batch(sec) total(sec)|
Info:       1000 |       66        933 |   66   933 |      1900|       0.26       0.26|
Info:       3034 |      284       2749 |  218  1816 |         0|       0.59       0.85|
Info: Routing complete.
"""


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (0, ("packing", 0, 0)),
        (2, ("packing", 0, 0)),
        (3, ("placing", 0, 0)),
        (5, ("refining the placement", 0, 0)),
        (8, ("refining the placement", 0, 0)),
        (9, ("routing", 0, 2778)),
        (11, ("routing", 0, 2778)),
        (12, ("routing", 878, 2778)),
        (13, ("routing", 2778, 2778)),
    ],
)
def test_the_log_says_what_is_under_way(lines: int, said: tuple[str, int, int]) -> None:
    """A placement of an hour would look like one that hangs."""
    assert advance("".join(LOG.splitlines(keepends=True)[:lines])) == said


def test_more_left_than_there_was_is_nothing_done() -> None:
    """Routing may begin by tearing up what it made: a bar would run backwards, below zero."""
    assert advance(LOG.replace("1900|", "4000|").split("Info:       3034")[0]) == ("routing", 0, 2778)


def test_a_tool_is_watched_while_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tool of this test ends when somebody has looked at its log, and no sooner."""
    (tmp_path / "watched_tool.py").write_text(
        "import pathlib, time\n"
        "def run(arguments):\n"
        "    print('Info: Routing 7 arcs.', flush=True)\n"
        "    while not pathlib.Path('seen').exists(): time.sleep(0.01)\n"
        "    return 1\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setitem(synth_tools.TOOLS, PARTS["up5k"].family.placer, ("watched_tool", "run"))
    stages: list[tuple[str, int, int]] = []

    def look(stage: str, done: int, total: int) -> None:
        stages.append((stage, done, total))
        (tmp_path / "seen").touch()

    shop = Workshop(tmp_path, PARTS["up5k"], Deadline.after(60.0))
    with pytest.raises(SynthesisError):
        shop.place([], "top", progress=within(look, "seed 1: "))
    assert stages[0] == ("seed 1: routing", 0, 7)
