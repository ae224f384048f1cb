"""The options of `eqfault run`, `plan` and `exhaust`, and all that is wrong with those of one command line."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import TypeVar

from eqcompile.toolchain import registry
from eqcompile.toolchain.diagnostics import Diagnostic
from eqcompile.toolchain.typed_json import JsonObject

from ..campaign_options import CampaignOptions, EnvironmentOptions, environment
from ..exhaust import ExhaustOptions
from .console import Parser
from .options import Faults, add_field_options, build, field_options

__all__ = ["parse_campaign"]


Options = TypeVar("Options", CampaignOptions, ExhaustOptions)


def parse_campaign(
    parser: Parser, argv: Sequence[str], *, kind: type[Options], required: Mapping[str, str] | None = None
) -> tuple[argparse.Namespace, Options, JsonObject]:
    """Parse with the options of the model that `--model` names: what is parsed, the campaign, the options of the model.

    `required`: arguments and options that must be there, by name, as the help calls them. Raises UsageError with
    everything that is wrong: what the parser finds and what is missing, a model, an engine or an environment that there
    is not, and values that a model does not take.
    """
    from eqcompile.sim.faults.engine import Engine
    from eqcompile.sim.faults.model import FaultModel

    faults, model = Faults(), None
    add_field_options(parser, kind, "campaign")
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--model", nargs="?")
    name = first.parse_known_args(argv)[0].model
    if name is not None:
        with faults.gathering():
            model = registry.find_class("faults", name, FaultModel)
            add_field_options(parser, model, f"options of model {name} ({model.summary})")
    namespace, found = parser.parse(argv)
    # Options of a model that is not there cannot be told from none.
    faults.extend(d for d in found if name is None or model is not None or not d.code.startswith("unknown-"))
    options = build(kind, namespace)
    stated = {**vars(namespace), "model": options.model}
    absent = [shown for name, shown in (required or {}).items() if stated.get(name) is None]
    faults.extend(Diagnostic("usage", f"{shown} is missing", hint=f"{parser.prog} --help") for shown in absent)
    if options.engine not in registry.names("engines"):
        with faults.gathering():
            registry.find_class("engines", options.engine, Engine)
    with faults.gathering():
        environment(build(EnvironmentOptions, namespace))
    chosen = {} if model is None else field_options(namespace, model)
    if model is not None:
        with faults.gathering():
            model(**chosen)
    faults.require()
    return namespace, options, chosen
