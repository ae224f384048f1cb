"""Run the bench, or given samples, on the core under cocotb.

python bench/run.py [--sim verilator|icarus] [--standard ...]    the whole bench
python bench/run.py [...] --waves a.fst --junit r.xml            the same, with every signal and results for a CI server
python bench/run.py [--sim ...] -i x.npz -o y.npz                samples under `codes.NAME`, states if asked
python bench/run.py [--sim ...] -i ... -o ... --deposits f.json  upsets by the simulator (deposits.py)
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
# An isolated interpreter (python -I) does not look beside the script by itself, and passes its path on to the bench.
sys.path.insert(0, str(HERE))

import layout  # type: ignore[import-not-found]  # noqa: E402
import tools  # type: ignore[import-not-found]  # noqa: E402

BUILD_ARGS = {
    "icarus": [],
    # Sums and products are exact: Verilog extends their operands.
    "verilator": ["-Wno-WIDTHEXPAND", "-Wno-fatal", "-O3", "--x-assign", "fast", "--noassert"],
}
STANDARDS = {
    "icarus": {"1364-2005": ["-g2005"], "1800-2017": ["-g2012"]},
    "verilator": {name: ["--language", name] for name in ("1364-2005", "1800-2017")},
}
"""Verilog and SystemVerilog; the core means the same in both."""

DEPOSIT_ARGS = {"icarus": [], "verilator": ["--public-flat-rw"]}

WAVES_ARGS = {"icarus": [], "verilator": ["--trace-fst"]}
WAVES = {"icarus": "core.fst", "verilator": "dump.fst"}
"""The file that the simulator writes."""


def run(
    sim: str,
    build: Path,
    *,
    trace: bool,
    testcase: str | None,
    env: dict[str, str],
    verbose: bool,
    module: str = "test_core",
    standard: str = "1800-2017",
    waves: Path | None = None,
    junit: Path | None = None,
) -> int:
    """Build the core and run the bench, or one of its tests; how many failed; 1 if it cannot be run.

    `waves`: where every signal goes, as FST; `junit`: where the results go, as JUnit's XML. Both are there
    after a failed run too.
    """
    from cocotb_tools.check_results import get_results
    from cocotb_tools.runner import get_runner

    os.environ.update(tools.verilator() if sim == "verilator" else tools.icarus())
    if waves is not None and sim == "verilator":
        tools.demand_fst()
    log = None if verbose else build / "run.log"
    results = junit or build / "results.xml"
    build.mkdir(parents=True, exist_ok=True)
    runner = get_runner(sim)
    core = layout.Layout.read(traced=trace)
    try:
        tools.copied(core.memories, build)
        runner.build(
            sources=tools.copied(core.sources, build),
            hdl_toplevel="core",
            build_dir=build,
            build_args=[
                *STANDARDS[sim][standard],
                *BUILD_ARGS[sim],
                *(DEPOSIT_ARGS[sim] if module == "deposits" else []),
                *(WAVES_ARGS[sim] if waves is not None else []),
            ],
            waves=waves is not None,
            timescale=("1ns", "1ps"),
            log_file=log,
        )
        runner.test(
            test_module=module,
            hdl_toplevel="core",
            build_dir=build,
            test_dir=build,
            testcase=testcase,
            seed="1",
            waves=waves is not None,
            results_xml=str(results),
            log_file=log,
            # cocotbext-axi uses names that cocotb 2 has deprecated.
            extra_env={
                "PYTHONWARNINGS": "ignore::DeprecationWarning",
                # A run leaves nothing beside the bench.
                "PYTHONDONTWRITEBYTECODE": "1",
                "CORE_TRACE": str(int(trace)),
                "COCOTB_LOG_LEVEL": "INFO" if verbose else "WARNING",
                **env,
            },
        )
        tests, failed = get_results(results)
    except (RuntimeError, SystemExit) as error:
        # A core that does not build, a simulator that dies; under pytest a failed test too.
        show(log)
        sys.stderr.write(f"{error}\n")
        return 1
    finally:
        if waves is not None and (build / WAVES[sim]).exists():
            shutil.copyfile(build / WAVES[sim], waves)
    if failed or not tests:
        show(log)
    sys.stdout.write(f"{tests} tests, {failed} failed\n")
    return failed if tests else 1


def show(log: Path | None) -> None:
    """What was kept from the terminal."""
    if log is not None:
        sys.stderr.write(log.read_text(encoding="utf-8", errors="replace"))


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sim", choices=("verilator", "icarus"), default="verilator")
    parser.add_argument("--standard", choices=STANDARDS["icarus"], default="1800-2017", help="of the language")
    parser.add_argument("--build", type=Path, help="folder for what is built (default build/SIM)")
    parser.add_argument("--test", help="run this test alone")
    parser.add_argument("-i", "--input", type=Path, help="samples to run instead of the bench")
    parser.add_argument("-o", "--output", type=Path, help="where their results go")
    parser.add_argument("--deposits", type=Path, help="with samples: upsets, each of one of them")
    parser.add_argument("--trace", action="store_true", help="with samples: write the states after every tick too")
    parser.add_argument("--waves", type=Path, metavar="FILE.fst", help="write every signal")
    parser.add_argument("--junit", type=Path, metavar="FILE.xml", help="write the results, for a CI server")
    parser.add_argument("--quiet", action="store_true", help="warnings and failures only")
    options = parser.parse_args(argv)
    if (options.input is None) != (options.output is None):
        parser.error("--input and --output go together")
    env, test, trace = {}, options.test, True
    if options.input is not None:
        env = {"CORE_INPUTS": str(options.input.resolve()), "CORE_RESULTS": str(options.output.resolve())}
        test, trace = "samples", options.trace
    module = "test_core" if options.deposits is None else "deposits"
    if options.deposits is not None:
        env["CORE_DEPOSITS"] = str(options.deposits.resolve())
        test, trace = None, True
    for package, name in (("cocotb", "cocotb"), ("cocotbext.axi", "cocotbext-axi"), ("numpy", "numpy")):
        if importlib.util.find_spec(package) is None:
            sys.stderr.write(f"{name} is not installed: pip install {name}\n")
            return 3
    build = (options.build or HERE.parent / "build" / options.sim).resolve()
    if options.sim == "verilator" and not tools.plain(build):
        sys.stderr.write(f"make takes no path like {str(build)!r}: build elsewhere, with --build /tmp/core\n")
        return 3
    try:
        failed = run(
            options.sim,
            build,
            trace=trace,
            testcase=test,
            env=env,
            verbose=not options.quiet,
            module=module,
            standard=options.standard,
            waves=options.waves and options.waves.resolve(),
            junit=options.junit and options.junit.resolve(),
        )
    except tools.MissingTool as error:
        sys.stderr.write(f"{error}\n")
        return 3
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
