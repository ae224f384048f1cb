"""What the command line can do, the Python interface can do: each command, and each of its options."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

import eqcompile as eq
from eqcompile.app.campaign_options import BaselineOptions, CampaignOptions, EnvironmentOptions, WorkerOptions
from eqcompile.app.cli.commands import COMMANDS
from eqcompile.app.cli.eqfault import COMMANDS as FAULT_COMMANDS
from eqcompile.app.exhaust import ExhaustOptions
from eqcompile.app.options import InspectOptions
from eqcompile.app.reference.commands import parser_of
from eqcompile.app.stages.keywords import in_seconds, keyword_groups
from eqcompile.toolchain import registry
from eqcompile.toolchain.diagnostics import UsageError
from eqcompile.toolchain.interfaces import Target
from eqcompile.toolchain.options import QuantizeOptions, TuneOptions

CAMPAIGN = (CampaignOptions, BaselineOptions, EnvironmentOptions, WorkerOptions)
Calls = tuple[tuple[Callable[..., Any], ...], tuple[Any, ...]]
"""Functions, and the dataclasses whose fields their keywords are."""

WAYS: dict[tuple[str, ...], Calls] = {
    (): ((eq.load, eq.quantize, eq.compile, eq.Build.report), (QuantizeOptions,)),
    ("inspect",): ((eq.inspect,), (InspectOptions,)),
    ("run",): ((eq.load, eq.Model.run, eq.Build.run, eq.Inference.save), ()),
    ("verify",): ((eq.open, eq.Build.verify), ()),
    ("compare",): ((eq.compare_builds,), ()),
    ("certify",): ((eq.certify,), ()),
    ("tune",): ((eq.load, eq.tune), (QuantizeOptions, TuneOptions)),
    ("search",): ((eq.load, eq.search, eq.Search.save), (QuantizeOptions,)),
    ("synth",): ((eq.synthesise,), ()),
    ("targets",): ((eq.load, eq.available_targets), (QuantizeOptions,)),
    ("families",): ((eq.families,), ()),
    ("new", "family"): ((eq.new_family,), ()),
    ("doctor",): ((eq.doctor,), ()),
    ("fault", "run"): ((eq.campaign,), CAMPAIGN),
    ("fault", "resume"): ((eq.open_campaign, eq.Campaign.resume), (WorkerOptions,)),
    ("fault", "report"): ((eq.open_campaign, eq.Campaign.report), ()),
    ("fault", "plan"): ((eq.plan_campaign,), CAMPAIGN),
    ("fault", "pack"): ((eq.open_campaign, eq.Campaign.pack), ()),
    ("fault", "exhaust"): ((eq.exhaust,), (ExhaustOptions,)),
    ("fault", "replay"): ((eq.open_campaign, eq.Campaign.replay, eq.Replay.save), ()),
    ("fault", "models"): ((eq.fault_models,), ()),
    ("fault", "rate"): ((eq.upset_rates,), ()),
}
NAMES = {
    "calibrate": {"calibrate"},
    "clock": {"clock_mhz"},
    "command": {"fault"},
    "data": {"samples"},
    "input": {"x"},
    "inputs": {"inputs", "x"},
    "kind": {"name"},
    "output": {"out", "path", "folder"},
    "safe": {"ticks"},  # the share is a property of what `certify` returns
    "report": {"folder", "report"},
    "simulators": {"simulators"},
    "source": {"net", "source", "model", "folder"},
    "target_agreement": {"target"},
    "guard_bits": {"guard_bits"},
}
"""Keywords of a function by the name of the option, where they differ."""
SUBJECTS = {"campaign", "folder", "model", "source", "file", "fault", "first", "second", "output"}
"""Positional arguments of commands, which are what the functions are called with or on."""


def lacking(words: tuple[str, ...], calls: Calls) -> list[str]:
    """The options of a command that no keyword of the functions stands for."""
    functions, kinds = calls
    keywords = {name for f in functions for name in inspect.signature(f).parameters}
    keywords |= {f.name for kind in kinds for f in fields(kind)}
    options = []
    for action in parser_of(list(words))._actions:
        name = action.dest.rpartition(".")[2]
        if action.dest in ("help", "json") or (not action.option_strings and name in SUBJECTS):
            continue
        if not ({name} | NAMES.get(name, set())) & keywords:
            options.append(action.option_strings[0] if action.option_strings else name)
    return options


def test_each_command_has_its_function() -> None:
    """A new command that only the command line has would otherwise not be noticed."""
    words = {(c.name,) for c in COMMANDS} - {("fault",), ("new",)} | {("fault", c.name) for c in FAULT_COMMANDS}
    assert set(WAYS) - {(), ("new", "family")} == words


@pytest.mark.parametrize("words", WAYS, ids=lambda words: " ".join(words) or "compile")
def test_each_option_has_its_keyword(words: tuple[str, ...]) -> None:
    """An option that only the command line has would otherwise not be noticed."""
    assert lacking(words, WAYS[words]) == []


def test_an_option_without_a_keyword_is_found() -> None:
    """The test above could otherwise not fail."""
    assert "--timeout" in lacking(("verify",), ((eq.open,), ()))


def test_a_time_is_given_as_on_the_command_line() -> None:
    """`mission=` was unknown, beside `--mission`; both ways to one number, and never two of them."""
    kinds = (*CAMPAIGN, ExhaustOptions)
    times = [f for kind in kinds for f in fields(kind) if f.metadata.get("unit") == "s"]
    assert {"mission_s", "scrub_s"} <= {f.name for f in times}
    for f in times:
        word = f.metadata["flag"].removeprefix("--")
        for given in ({word: "2min"}, {f.name: "2min"}, {word: 120.0}, {f.name: 120.0}):
            assert in_seconds(kinds, given) == ({f.name: 120.0}, [])
    (environment,) = keyword_groups([EnvironmentOptions], {"mission": "5y"}, "eq.campaign")
    assert environment.mission_s == 5 * 365.25 * 86400
    orbit = Path(__file__).parents[2] / "examples" / "orbit_kinds.toml"
    assert eq.upset_rates(orbit, mission="5y") == eq.upset_rates(orbit, mission_s=5 * 365.25 * 86400)
    with pytest.raises(UsageError, match="are the same, both are given"):
        keyword_groups([EnvironmentOptions], {"mission": 1.0, "mission_s": 2.0}, "eq.campaign")
    with pytest.raises(UsageError, match="mission: .*5 fortnights"):
        keyword_groups([EnvironmentOptions], {"mission": "5 fortnights"}, "eq.campaign")


@pytest.mark.parametrize("name", registry.names("targets"))
def test_options_of_a_target_are_no_keywords_of_compile(name: str) -> None:
    """An option of the same name could not be given."""
    named = set(inspect.signature(eq.compile).parameters) - {"options"}
    target = registry.find_class("targets", name, Target)
    assert {f.name for f in fields(target)} & named == set()


def test_no_name_is_that_of_a_room() -> None:
    """`eqcompile.targets` is a package: once it is imported, a function of that name is gone."""
    rooms = {"app", "quantization", "rtl", "sim", "targets", "toolchain"}
    assert not rooms & set(eq.__all__)
