# `make song` and `make test` work in a fresh clone, with Python >= 3.11, make and a package index.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check
LOCK   := --quiet --constraint constraints.txt

STORY ?= An old lighthouse keeper spends his last night at the tower. The storm that took his wife comes back, and he keeps the lamp burning for a ship he cannot see.

# Not empty: `make bench-gpu-rehearsal` runs Triton's kernels in Triton's interpreter. Empty: it runs without Triton.
TRITON ?= yes

# Whole files, in their order: by default, xdist keeps those with few tests for the end, which are the longest ones.
TWO_WORKERS := --numprocesses=2 --dist=loadfile --no-loadscope-reorder

.PHONY: song test page stress stress-arm security chaos soak floor lab bench bench-fanout bench-kernel bench-worst bench-lyrics bench-songs bench-gpu-rehearsal setup clean

song: $(VENV)/.installed  ## make a song from a story
	@$(BIN)/harmonia song "$(STORY)" --seconds 30 --seed 7

test: $(VENV)/.installed-test  ## all checks and tests: format, lint, types, imports, pytest
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/mypy --config-file tests/systems/mypy.ini --platform darwin --cache-dir .mypy_cache/darwin
	$(BIN)/mypy --config-file tests/systems/mypy.ini --platform win32 --cache-dir .mypy_cache/win32
	$(BIN)/lint-imports
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(TWO_WORKERS) $(PYTEST_ARGS)

page: $(VENV)/.installed-test  ## build the page at a server's `/` from page/, with esbuild by npm
	$(BIN)/python -m page.build

stress: $(VENV)/.installed-test  ## what takes longer: more songs by the real model, 200 random cuts of the connection
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(TWO_WORKERS) -m stress $(PYTEST_ARGS)
	HARMONIA_CUTS=200 $(BIN)/python -m pytest tests/client/test_cuts.py

stress-arm:  ## make a song on Linux for Arm, emulated; needs root, debootstrap and qemu-user-static
	STORY="$(STORY)" .ci/arm

security: $(VENV)/.installed-test  ## ask a running server for everything, as everybody; writes docs/security.md
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.security

chaos: $(VENV)/.installed-test  ## faults at random moments and crash points; writes docs/chaos.md; ARGS='--only disk --runs 5'
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.chaos $(ARGS)

soak: $(VENV)/.installed-test  ## half an hour of mixed load; writes docs/soak.md; ARGS='--minutes 2'
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.soak $(ARGS)

lab: $(VENV)/.installed-lab  ## open JupyterLab on the first notebook; works as root too, as in a container
	$(BIN)/jupyter lab $(if $(filter 0,$(shell id -u)),--allow-root) $(LAB_ARGS) \
		--ServerApp.root_dir=notebooks --LabApp.default_url=/lab/tree/01_compose.ipynb

bench: $(VENV)/.installed  ## measure what a song costs on this machine
	$(BIN)/harmonia bench pipeline

bench-fanout: $(VENV)/.installed-test  ## compare the server with python-socketio's and JavaScript's; ARGS='--subscribers 100 --rounds 3'
	$(BIN)/python -m benchmarks.server fanout $(ARGS)

bench-kernel: $(VENV)/.installed-test  ## measure the server in a busy kernel; ARGS='--rounds 1'
	$(BIN)/python -m benchmarks.server kernel $(ARGS)

bench-worst: $(VENV)/.installed-test  ## measure what others notice while one client does its worst; ARGS='--only junk'
	$(BIN)/python -m benchmarks.server worst $(ARGS)

bench-lyrics: OUT ?= build/lyrics.jsonl
bench-songs: OUT ?= build/songs.jsonl

bench-lyrics: $(VENV)/.installed-test  ## measure stage 1's words; ARGS='--before OTHER_CHECKOUT --seeds 2'
	$(BIN)/python -m benchmarks.lyrics compare $(OUT) $(ARGS)

bench-songs: $(VENV)/.installed-test  ## measure 200 songs as they sound; ARGS='--songs 40 --checkout OTHER_CHECKOUT'
	$(BIN)/python -m benchmarks.songs measure $(OUT) $(ARGS)

bench-gpu-rehearsal: $(VENV)/.installed-test  ## run the GPU benchmark and its kernels on the CPU; TRITON= saves a download of 188 MB
	$(BIN)/python -m benchmarks.gpu rehearse $(if $(TRITON),,--without-triton)

setup: $(VENV)/.installed-test  ## install everything, and run nothing

# Install $(1) of this project. uv does it in a fifth of pip's time, from the same lock; it comes from the package index
# too. pip does it where uv can't be had or fails: an index of pip's own configuration, for instance, is none of uv's.
# UV= leaves uv out.
UV ?= $(BIN)/uv
define install
	@$(if $(UV),test -x $(UV) || $(PIP) install $(LOCK) uv >/dev/null 2>&1 || true)
	@$(if $(UV),test -x $(UV) && $(UV) pip install $(LOCK) --python $(BIN)/python --editable '$(1)' ||) \
		$(PIP) install $(LOCK) --editable '$(1)'
endef

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Harmonia Lab needs Python 3.11 or newer; $(PYTHON) is `$(PYTHON) --version`. Set PYTHON=…" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "$(PYTHON) has no venv module. On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }

$(VENV)/.installed: $(VENV)/bin/python pyproject.toml constraints.txt
	$(call install,.)
	$(BIN)/harmonia setup embedded
	@touch $@

$(VENV)/.installed-lab: $(VENV)/.installed
	$(call install,.[notebook])
	@touch $@

# torch by pip: its configuration says which build is wanted, and uv, which doesn't read that, would take one for CUDA.
$(VENV)/.installed-test: $(VENV)/.installed
	@$(PIP) install $(LOCK) torch
	$(call install,.[test])
	$(BIN)/harmonia setup musicgen
	@touch $@

# The oldest versions that pyproject.toml admits, the newest of what those need; on the oldest Python that there are
# wheels of all of them for. Needs uv.
FLOOR := build/floor
floor: $(VENV)/.installed  ## make a song with the oldest versions of the requirements
	rm -rf $(FLOOR)
	$(UV) venv --quiet --python $(PYTHON) $(FLOOR)/venv
	$(UV) pip compile --quiet --resolution lowest-direct --python $(FLOOR)/venv pyproject.toml --output-file $(FLOOR)/floor.txt
	$(UV) pip install --quiet --python $(FLOOR)/venv --requirements $(FLOOR)/floor.txt --editable .
	PATH=$(abspath $(BIN)):$$PATH $(FLOOR)/venv/bin/harmonia setup embedded
	HARMONIA_HOME=$(FLOOR)/home $(FLOOR)/venv/bin/harmonia song "$(STORY)" --seconds 5 --seed 7 --out $(FLOOR)/song
	HARMONIA_HOME=$(FLOOR)/home $(FLOOR)/venv/bin/harmonia doctor

clean:  ## remove the environment, caches and rehearsals
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis build/gpu-rehearsal* build/gpu-kit-rehearsal
