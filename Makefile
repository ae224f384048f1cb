# Two commands do all set-up: `make demo` and `make test`. Both can be run again at any time.
SHELL := /bin/bash
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
LAVA := lava-nc==0.10.0
OUT ?= build/demo
JOBS ?= 2
# Without compiled modules every worker and every command that a test starts would compile all it imports anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help claims oldest-onnxruntime artifacts docs site results demo test test-fast test-quick lint browser bench rtl boards families cifar examples mutants packages clean

help:
	@echo "make demo        set up, compile trained digits checkpoints to numpy and loihi, run them, compare with golden"
	@echo "make test        set up, lint, type check, run every test"
	@echo "make test-fast   the same without the tests that start a simulator or take seconds each"
	@echo "make test-quick  the tests of the IR, golden, importers and diagnostics, and the laws: a first look at any change"
	@echo "make bench       measure speed, as ratios against named peers in the same run"
	@echo "make rtl         what the cores cost on FPGAs, their clocks, and every state of every step against golden (hours)"
	@echo "make boards      place and route a trained net on every board, and record what it takes and the day (half an hour)"
	@echo "make families    every family to every target: steps, mismatches, refusals and why; labels of floats and integers"
	@echo "make cifar       convolutional nets on images of CIFAR-10's shape: every state of every step against golden"
	@echo "make claims      the claims of the field that matter to hardware, each beside a measurement and a verdict"
	@echo "make examples    train the committed checkpoints anew"
	@echo "make mutants     random mutants of the product against the tests that reach their lines (hours; goes on where it was)"
	@echo "make artifacts   emit a fixed set of nets for every target, and say which files a change of the code alters"
	@echo "make oldest-onnxruntime  run emitted models in the oldest ONNX Runtime that they claim, installed for it"
	@echo "make results     render benchmarks/results as benchmarks/RESULTS.md"
	@echo "make docs        write the reference pages anew"
	@echo "make site        build the documentation as a site in build/site, every link and cell of the tutorial checked"
	@echo "make packages    build wheel and sdist, install them for each Python that is here, and compile with them"
	@echo "make clean       remove the environment and build outputs"

# The stamps are remade when what they were made from changes. The first is of what the demo runs, and no more: modules
# are compiled when they are imported, since most of SciPy never is.
$(VENV)/.demo: pyproject.toml requirements.lock Makefile
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 11) and "eqcompile needs Python 3.11 or newer, found %d.%d: set PYTHON=/path/to/python3.11" % v[:2])'
	@if ! $(PYTHON) -c 'import venv, ensurepip' 2>/dev/null; then \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "== installing python3-venv with apt-get"; apt-get update -qq && apt-get install -y -qq python3-venv; \
	  else echo "Python has no venv module. Install it first: sudo apt-get install python3-venv" >&2; exit 1; fi; fi
	@echo "== making the environment in $(VENV), with what the demo runs"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install --no-compile -c requirements.lock -e '.[loihi]'
	@if $(BIN)/python -c 'import sys; sys.exit(sys.version_info >= (3, 13))'; then \
	  echo "== installing $(LAVA) (its metadata forbids this Python; see toolchain/decisions/0002-lava.md)"; \
	  $(PIP) install --no-compile --no-deps --ignore-requires-python '$(LAVA)'; fi
	@touch $@

# What the tests need beyond that: simulators, frameworks, tools of developers.
$(VENV)/.installed: $(VENV)/.demo
	@for tool in iverilog g++; do command -v $$tool >/dev/null && continue; \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "== installing $$tool with apt-get"; apt-get update -qq && apt-get install -y -qq $$tool; \
	  else echo "The RTL simulators need $$tool. Install it first: sudo apt-get install $$tool" >&2; exit 1; fi; done
	@[ -e /usr/include/lz4.h ] || if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  echo "== installing liblz4-dev with apt-get (Verilator's writer of waves includes it)"; \
	  apt-get update -qq && apt-get install -y -qq liblz4-dev zlib1g-dev; \
	else echo "no headers of lz4: the test of Verilator's waves is skipped. To run it: sudo apt-get install liblz4-dev"; fi
	@command -v ccache >/dev/null || if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  echo "== installing ccache with apt-get (Verilator's own sources are compiled once, not for every core)"; \
	  apt-get update -qq && apt-get install -y -qq ccache; \
	else echo "no ccache: simulators of cores take longer to build. To have it: sudo apt-get install ccache"; fi
	@for pair in arm-none-eabi-gcc=gcc-arm-none-eabi qemu-system-arm=qemu-system-arm; do \
	  command -v $${pair%%=*} >/dev/null && continue; \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "== installing $${pair##*=} with apt-get"; apt-get update -qq && apt-get install -y -qq $${pair##*=}; \
	  else echo "The simulator c-cortex-m needs $${pair%%=*}. Install it first: sudo apt-get install $${pair##*=}" >&2; exit 1; fi; done
	@echo "== installing what the tests need, at the versions of requirements.lock"
	@$(PIP) install -c requirements.lock -e '.[dev,torch,loihi,examples,rtl,hls4ml,qat,faults,cluster,docs]'
	@touch $@

demo: $(VENV)/.demo
	@$(BIN)/python examples/demo.py --out $(OUT)

lint: $(VENV)/.installed
	@echo "== ruff: lint and format"
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@echo "== mypy --strict"
	@$(BIN)/mypy

# A test draws the report of a campaign in it, and is skipped without.
browser:
	@for name in chromium chromium-browser google-chrome; do command -v $$name >/dev/null && exit 0; done; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  echo "== installing chromium with apt-get"; \
	  apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium >/dev/null && exit 0; fi; \
	echo "no chromium: the test that draws a report in it is skipped. To run it: sudo apt-get install chromium"

test: lint browser
	@echo "== pytest (all)"
	@OMP_NUM_THREADS=1 $(BIN)/pytest -n $(JOBS) --dist loadgroup

test-fast: lint
	@echo "== pytest (without the tests that start a simulator, or are slow)"
	@OMP_NUM_THREADS=1 $(BIN)/pytest -n $(JOBS) --dist loadgroup -m "not simulator and not slow"

# Under two minutes on two busy cores: what every other room rests on, and the laws.
QUICK := $(addprefix tests/,ir golden passes reference certificate artifact toolchain importers)
test-quick: $(VENV)/.installed
	@OMP_NUM_THREADS=1 $(BIN)/pytest -n $(JOBS) --dist loadgroup -m "not simulator and not slow" $(QUICK) tests/test_*.py

bench: $(VENV)/.installed
	@$(BIN)/python benchmarks/run.py

rtl: $(VENV)/.installed
	@$(BIN)/python benchmarks/rtl.py
	@$(BIN)/python benchmarks/rtl_equal.py
	@$(BIN)/python benchmarks/rtl_speed.py
	@$(BIN)/python benchmarks/rtl_da4ml.py

# BOARDS='--board ulx3s' for one of them.
boards: $(VENV)/.installed
	@$(BIN)/python benchmarks/boards.py $(BOARDS)

# FAMILIES=--keep goes on with a run that was ended.
families: $(VENV)/.installed
	@OMP_NUM_THREADS=1 $(BIN)/python benchmarks/families.py $(FAMILIES)
	@OMP_NUM_THREADS=1 $(BIN)/python benchmarks/labels.py $(FAMILIES)

cifar: $(VENV)/.installed
	@OMP_NUM_THREADS=1 $(BIN)/python benchmarks/cifar.py

claims: $(VENV)/.installed
	@$(BIN)/python benchmarks/claims/run.py

examples: $(VENV)/.installed
	@$(BIN)/python examples/train.py looped --rule eqprop -o examples/checkpoints/digits_looped.pt
	@for net in ternary lazy cube mlp; do \
	  $(BIN)/python examples/train.py $$net -o examples/checkpoints/digits_$$net.pt || exit 1; done

mutants: $(VENV)/.installed
	@OMP_NUM_THREADS=1 $(BIN)/python tests/support/mutants.py --simulators

# Every artifact of a fixed set of nets, by the hashes of its files: says which a change of the code alters.
artifacts: $(VENV)/.installed
	@$(BIN)/python benchmarks/artifacts.py

oldest-onnxruntime: $(VENV)/.installed
	@$(BIN)/python benchmarks/oldest_onnxruntime.py

results: $(VENV)/.installed
	@$(BIN)/python benchmarks/results.py

docs: $(VENV)/.installed
	@$(BIN)/python -m eqcompile.toolchain.diagnostics.page > docs/reference/diagnostics.md
	@$(BIN)/python -m eqcompile.toolchain.importers.page > docs/reference/families.md
	@$(BIN)/python -m eqcompile.app.reference.commands > docs/reference/commands.md
	@$(BIN)/python -m eqcompile.app.reference.files > docs/reference/files.md
	@$(BIN)/python benchmarks/support.py

# Needs the extra `docs`. Runs the tutorial, and fails at a dead link.
site: $(VENV)/.installed
	@$(BIN)/python docs/site.py

# Wheel and sdist, installed outside of this tree for each Python that is here.
packages:
	@bash .ci/packages

clean:
	rm -rf $(VENV) build .mypy_cache .pytest_cache .ruff_cache .hypothesis
