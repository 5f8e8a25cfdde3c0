# make demo    the main job, shown step by step        make test    all the tests
# make check   ruff, mypy --strict, the import law     make bench   measures, as tables
# make simulate SEEDS=5000  more stories of kernel, pagers and disk than `make test` tells
# make simulate-pager SEEDS=20000  more worlds of the pager with failing disks and hostile clients
# make fuzz-socket MESSAGES=1000000, make kill-pager KILLS=200  hostile clients and kill -9 for a live pagerd
# make fuzz MUTANTS=20000    more broken disks than `make test` tries, and then SECONDS_GUIDED=300 of atheris
# make judges  the fsck of June 1986, Linux, pytsk3 and dissect.ffs (make peers) on more disks than `make test` has time for
# make docs    the pages that are made from the code; make man: man pages, into build/man
# make bench-paper  the tables of the paper's section 7 (an hour and a quarter; not part of `make bench`)
# make servers  the i386 programs of fixtures/servers, by gcc -m32
# make fixtures  the disks of fixtures/disks, made from their recipes into build/disks
# Every target sets up what it needs: a .venv here, and libfuse2 by apt when we may.
.PHONY: demo test check bench bench-bootfs bench-pager bench-kernel bench-paper simulate simulate-pager fuzz fuzz-socket kill-pager judges peers docs man fixtures servers setup system clean
SHELL := /bin/bash
PYTHON ?= python3
SEEDS ?= 2000
MESSAGES ?= 1000000
KILLS ?= 200
MUTANTS ?= 20000
SECONDS_GUIDED ?= 300
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

demo: setup
	@PATH="$(CURDIR)/$(BIN):$$PATH" bash demo/demo.sh

test: setup
	$(BIN)/pytest -n 2 --dist worksteal

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -q tests/test_import_law.py

bench: bench-bootfs bench-pager bench-kernel

bench-kernel: setup
	$(BIN)/python -m benchmarks kernel

bench-bootfs: setup
	$(BIN)/python -m benchmarks bootfs

bench-pager: setup
	$(BIN)/python -m benchmarks pager

bench-paper: setup
	$(BIN)/python -m benchmarks paper

fuzz-socket: setup
	PYTHONPATH=tests:. $(BIN)/python -m tests.hostile.socket_fuzz --messages $(MESSAGES)

kill-pager: setup
	KILLS=$(KILLS) $(BIN)/pytest -q -n 0 tests/hostile/test_kill_at_write.py

fuzz: setup
	$(BIN)/python -m tests.fuzz --count $(MUTANTS)
	@$(BIN)/python -c 'import atheris' 2>/dev/null || $(BIN)/pip install --quiet atheris || echo "atheris cannot be had here: left out"
	@! $(BIN)/python -c 'import atheris' 2>/dev/null || \
	  $(BIN)/python -m tests.fuzz.atheris_bootfs -max_total_time=$(SECONDS_GUIDED)

judges: setup peers
	JUDGES=all $(BIN)/pytest -q tests/disktools/test_disktools_judges.py tests/disktools/test_disktools_judged_geometries.py \
	  tests/disktools/test_disktools_holes.py tests/corpus/test_corpus_linux.py tests/corpus/test_corpus_peers.py

peers: setup
	$(BIN)/python -m benchmarks.peers

docs: setup
	$(BIN)/python docs/make_protocol.py
	$(BIN)/python docs/make_formats.py
	$(BIN)/python docs/make_mach_tests.py

simulate-pager: setup
	PAGER_SEEDS=$(SEEDS) $(BIN)/pytest -q -n 2 tests/simulation

simulate: setup
	SEEDS=$(SEEDS) $(BIN)/pytest -q -n 2 tests/test_simulated_system.py

man: setup
	$(BIN)/python docs/make_man.py build/man

servers: setup
	$(BIN)/python -m fixtures.servers.build

fixtures: setup
	$(BIN)/python -m fixtures.disks build/disks

setup: system $(STAMP)

$(STAMP): pyproject.toml Makefile
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed: try make PYTHON=python3.11 (or newer) ..."; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "$(PYTHON) cannot make a virtual environment: sudo apt-get install python3-venv"; exit 1; }
	@# compat: this directory on the path. The other way is an import hook, which every start of a command waits for.
	$(BIN)/pip install --quiet --disable-pip-version-check --config-settings editable_mode=compat --editable '.[dev,fuse3]'
	@touch $(STAMP)

# fusepy loads libfuse 2 of the system. Everything but the mount works without it.
system:
	@if ! PATH="$$PATH:/sbin:/usr/sbin" ldconfig -p 2>/dev/null | grep -q 'libfuse\.so\.2'; then \
	  if [ "$$(id -u)" = 0 ]; then AS=; elif sudo -n true 2>/dev/null; then AS="sudo -n"; else AS=no; fi; \
	  if [ "$$AS" != no ] && command -v apt-get >/dev/null; then \
	    echo "installing libfuse2 (for the mount)"; \
	    { $$AS apt-get install -y -qq libfuse2 >/dev/null 2>&1 || \
	      { $$AS apt-get update -qq && $$AS apt-get install -y -qq libfuse2; } >/dev/null 2>&1; } || \
	    echo "libfuse2 could not be installed: the mount will be left out. Install libfuse2 by hand to have it."; \
	  else echo "libfuse2 is not here: the mount will be left out. To have it: sudo apt-get install libfuse2"; fi; fi

clean:
	rm -rf $(VENV) build .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
