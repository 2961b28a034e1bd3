# `make sweep` and `make test` set everything up in .venv and do nothing twice.
#
# PYTHON      the Python to build .venv from, 3.10 to 3.13. If it already has torch (a CUDA build of
#             your own, 2.4 or newer), that torch is kept and mmcv is compiled against it.
# GRID, ARGS  the sweep: make sweep GRID=alpha_ce ARGS="--seeds 0 1 2"
# CONSTRAINTS constraints.txt installs exactly the versions that CI uses
# STACK       openmmlab, or onedl: the maintained fork of OpenMMLab's packages

PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || \
    command -v python3.10 || command -v python3)
GRID ?= gamma_alpha
ARGS ?=
FUZZ ?=
TORCH ?= torch==2.13.0
TORCHVISION ?=
STACK ?= openmmlab
CONSTRAINTS ?=
CELLS ?=
FOR ?=
PLATFORM ?=
HAVE ?=
BUNDLE ?=
REHEARSE ?=

VENV ?= .venv
BIN := $(VENV)/bin
# Each step leaves a stamp, so that an interrupted set-up goes on where it stopped.
STEP := $(VENV)/.step

.PHONY: setup sweep test test-all pretrained lint interval-coverage cost-per-conclusion \
    bench-deciding bench-losses bench-resampling bench-sweep bench-harness bench-launch bench-wandb \
    chaos fuzz gpu-check matrix bundle offline-setup clean

setup: $(STEP)-project

sweep: setup
	$(BIN)/python runners/sweep.py --grid $(GRID) $(ARGS)

# Two processes, which takes two thirds of the time that one does; a file's tests stay together.
test: setup
	$(BIN)/python -m pytest -n 2 --dist loadfile

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

# Proves the project on this machine's GPU, at most nine minutes; REHEARSE=--rehearse without one.
gpu-check: setup
	$(BIN)/python -m benchmarks.gpu_check $(REHEARSE)

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
	@$(PYTHON) -m environment.python $(VENV)
	@touch $@

$(STEP)-torch: $(STEP)-venv
	@$(BIN)/python -m environment.packages torch "$(TORCH)" --torchvision "$(TORCHVISION)"
	@touch $@

$(STEP)-mmcv: $(STEP)-torch
	@$(BIN)/python -m environment.mmcv --stack $(STACK)
	@touch $@

$(STEP)-project: $(STEP)-mmcv pyproject.toml
	@$(BIN)/python -m environment.packages project --stack $(STACK) \
	    $(addprefix --constraints ,$(CONSTRAINTS)) $(addprefix --bundle ,$(BUNDLE))
	@touch $@

# Without a network: `make bundle FOR=3.12` where there is one writes an archive into build/; there,
# in the folder that it unpacks to, `make offline-setup PYTHON=...` with a Python that has torch.
bundle: $(STEP)-venv
	@$(BIN)/python -m environment.bundle $(addprefix --python ,$(FOR)) \
	    $(addprefix --platform ,$(PLATFORM)) $(addprefix --have ,$(HAVE))

offline-setup: BUNDLE := $(abspath $(or $(BUNDLE),bundle))
offline-setup:
	@$(PYTHON) -m environment.offline $(BUNDLE)
	@PIP_NO_INDEX=1 PIP_FIND_LINKS=$(BUNDLE) $(MAKE) --no-print-directory setup BUNDLE=$(BUNDLE)

# The default tests on other Pythons and torches: make matrix CELLS="py310-torch24 py312-torch211".
# The environments are made outside this folder and kept. Hours for all cells.
matrix:
	$(PYTHON) -m environment.matrix $(CELLS)

clean:
	rm -rf $(VENV) build *.egg-info
