# `make sweep` and `make test` set everything up in .venv and do nothing twice.
#
# PYTHON     the Python to build .venv from. If it already has torch (a CUDA build of your own),
#            that torch is kept and mmcv is compiled against it.
# GRID, ARGS the sweep: make sweep GRID=alpha_ce ARGS="--seeds 0 1 2"

PYTHON ?= $(shell command -v python3.11 || command -v python3)
GRID ?= gamma_alpha
ARGS ?=
FUZZ ?=
TORCH ?= torch==2.13.0
TORCHVISION ?= torchvision==0.28.0
MMCV ?= mmcv==2.1.0

BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet
# Each step leaves a stamp, so that an interrupted set-up goes on where it stopped.
STEP := .venv/.step

.PHONY: setup sweep test test-all pretrained lint interval-coverage cost-per-conclusion \
    bench-deciding bench-losses bench-resampling bench-sweep bench-harness bench-launch bench-wandb \
    chaos fuzz clean

setup: $(STEP)-project

sweep: setup
	$(BIN)/python runners/sweep.py --grid $(GRID) $(ARGS)

test: setup
	$(BIN)/python -m pytest

# Everything, the slow tiers too; Slurm's tests are skipped where Slurm is not installed.
test-all: setup
	$(BIN)/python -m pytest -m "not gpu"

# The backbones that the embedded detector begins from, made anew: about a minute each on two cores.
pretrained: setup
	$(BIN)/python -m ablations.training.pretraining --depth 18
	$(BIN)/python -m ablations.training.pretraining --depth 34

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Programs that measure; each writes a page into reports/benchmarks/. One thread, as in a trial.
MEASURE := OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks

# How often the report's intervals cover the truth, by simulation.
interval-coverage: setup
	$(BIN)/python -m benchmarks.interval_coverage reports/benchmarks/coverage.md

# How many trials it takes to show a difference of 1 AP, from the committed sweep's trials.
cost-per-conclusion: setup
	$(BIN)/python -m benchmarks.cost_per_conclusion reports/published/gamma_alpha/trials.csv reports/benchmarks/conclusions.md

# Sequential designs (--decide) against fixed ones, by simulation and on the committed sweeps.
bench-deciding: setup
	$(MEASURE).deciding reports/benchmarks/deciding.md

# The losses side by side with their rivals: ratios first.
bench-losses: setup
	$(MEASURE).bench_losses

# How long resampling the validation images takes, beside pycocotools.
bench-resampling: setup
	$(MEASURE).bench_resampling reports/benchmarks/resampling.md

# What W&B costs a trial and an iteration.
bench-wandb: setup
	$(BIN)/python -m benchmarks.bench_wandb

# The default sweep beside mmdet's own tool in a loop.
bench-sweep: setup
	$(BIN)/python -m benchmarks.bench_sweep

# What planning, launching, showing and reporting ten thousand trials cost.
bench-harness: setup
	$(BIN)/python -m benchmarks.bench_harness

# What launching a trial costs, locally and on a Slurm that it starts here.
bench-launch: setup
	$(BIN)/python -m benchmarks.bench_launch

# A small sweep whose processes are killed and stopped at random, for half an hour: its records must
# not change. CHAOS="--kills 10 --minutes 2 --seed 7" for another length, or the same faults again.
CHAOS ?=
chaos: setup
	$(BIN)/python -m benchmarks.chaos $(CHAOS)

# Ten thousand random inputs to everything that reads one; writes reports/reliability.md.
fuzz: setup
	$(BIN)/python -m benchmarks.fuzz $(FUZZ)

$(STEP)-venv:
	@echo "== making .venv from $(PYTHON)"
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info[:2] == (3, 11) else \
	    "Python 3.11 is needed, this is " + sys.version.split()[0] + "; set PYTHON=...")'
	@if $(PYTHON) -c 'import torch' 2>/dev/null; then \
	    echo "== keeping the torch of $(PYTHON)"; \
	    $(PYTHON) -m venv --system-site-packages .venv; \
	else \
	    $(PYTHON) -m venv .venv; \
	fi
	@$(PIP) --upgrade pip "setuptools>=77,<80" wheel ninja psutil
	@touch $@

$(STEP)-torch: $(STEP)-venv
	@if ! $(BIN)/python -c 'import torch' 2>/dev/null; then \
	    echo "== installing $(TORCH)"; $(PIP) $(TORCH); fi
	@if ! $(BIN)/python -c 'import importlib.util as u, sys; \
	    sys.exit(not u.find_spec("torchvision"))'; then $(PIP) --no-deps $(TORCHVISION); fi
	@touch $@

# mmcv ships no wheel for this torch: its operators are compiled here, against the torch above.
$(STEP)-mmcv: $(STEP)-torch
	@if ! $(BIN)/python -c 'import mmcv.ops' 2>/dev/null; then \
	    echo "== compiling mmcv's operators, once: 5 to 10 minutes on two cores"; \
	    CFLAGS="-g0 -w -O1" MMCV_WITH_OPS=1 $(PIP) --no-build-isolation $(MMCV); fi
	@touch $@

$(STEP)-project: $(STEP)-mmcv pyproject.toml
	@echo "== installing the project and what it needs"
	@$(BIN)/python -c 'import torch; print("torch==" + torch.__version__)' > .venv/constraints.txt
	@extras=dev; $(BIN)/python -c 'import triton' 2>/dev/null || extras=dev,triton; \
	    $(PIP) --constraint .venv/constraints.txt --no-build-isolation --editable ".[$$extras]"
	@touch $@

clean:
	rm -rf .venv build *.egg-info
