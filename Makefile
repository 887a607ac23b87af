# Thin: one job a target. `make help` lists them. All downloads and builds are cached by version in $(FARMSTEAD_CACHE).
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

export FARMSTEAD_CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/farmstead
export UV_CACHE_DIR := $(FARMSTEAD_CACHE)/uv/cache
export CARGO_HOME := $(FARMSTEAD_CACHE)/cargo
export CARGO_TARGET_DIR := $(FARMSTEAD_CACHE)/cargo-target
UV_VERSION := 0.13.9
UV := $(FARMSTEAD_CACHE)/uv/$(UV_VERSION)/bin/uv
RUN := .venv/bin

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

# What the system itself must have; looks, and installs only what is missing.
system-python system-testbed system-vm system-mirrorfs system-rust: system-%:
	@MAKE_GOAL=$(firstword $(MAKECMDGOALS)) tests/testbed/bootstrap $*

$(UV): | system-python
	python3 -m venv $(FARMSTEAD_CACHE)/uv/$(UV_VERSION)
	$(FARMSTEAD_CACHE)/uv/$(UV_VERSION)/bin/pip install --quiet uv==$(UV_VERSION)

# Bytecode is compiled at once: importing azure-mgmt-network without it costs 300 MiB and 4 s, with it 70 MiB and 0.6 s.
.venv/.ready: pyproject.toml uv.lock | $(UV)
	$(UV) sync --frozen --quiet --compile-bytecode
	@touch $@

# Another's cluster only where the command names it: an exported KUBECONFIG is not meant for this.
DEMO_CLUSTER = $(if $(filter command line,$(origin KUBECONFIG)),--kubeconfig $(KUBECONFIG))

demo: system-testbed controlplane ## A whole data centre on this machine: clusters, faults, traffic (KEEP=1 leaves it running)
	$(RUN)/python -m testbed.demo $(if $(KEEP),--keep) $(DEMO_CLUSTER)

demo-mirrorfs: system-testbed system-rust controlplane ## A directory on two machines: its primary killed, cut off, switched; nothing acknowledged is lost
	$(RUN)/python -m testbed.mirror_demo

# Most of a test's time here is waiting, for a drain or a probe: three processes for two cores.
test: system-testbed lint controlplane rust-test ## Everything: lint, types, and all tests with the real parts
	$(RUN)/pytest -n 3 --dist loadfile

check: lint ## What to run before every commit: lint, types, import contracts, unit tests
	$(RUN)/pytest -q tests/unit

lint: .venv/.ready
	$(RUN)/ruff check . && $(RUN)/ruff format --check .
	$(RUN)/mypy crds/src operator/src nodeagent/src tests
	$(RUN)/lint-imports

controlplane: .venv/.ready ## Build etcd, kube-apiserver and kubectl for the tests, unless the cache has them
	@$(RUN)/python -m testbed.controlplane >/dev/null

emulator: .venv/.ready ## The Azure emulator alone, on loopback: says how to point a client at it
	$(RUN)/python -m testbed.azure --group farmstead $(EMULATOR_ARGS)

chaos: system-testbed controlplane ## The operator killed 100 times in the middle of its calls: all ends as in peace
	FARMSTEAD_KILLS=100 $(RUN)/pytest -s tests/e2e/operator/test_kills.py

chaos-mirrorfs: system-testbed system-rust controlplane ## A mirror's daemons killed 200 times under load: every acknowledged operation is on both sides
	FARMSTEAD_MIRROR_KILLS=200 $(RUN)/pytest -s --timeout 3600 tests/integration/mirror/test_kills.py

soak: system-testbed controlplane ## Ten minutes with nothing to change: not one write to Azure
	FARMSTEAD_SOAK_SECONDS=600 $(RUN)/pytest -s tests/e2e/operator/test_frugality.py -k nothing_to_change

bench-agent: system-testbed controlplane ## What one agent costs with ten idle members: memory and processor, against its goals
	$(RUN)/python tests/bench/agent.py

COUNT := 30
power-cuts: system-vm system-rust controlplane ## Two virtual machines hold a mirror, and lose their power COUNT times (root; POWERCUT_ARGS="--seed 1")
	$(RUN)/python -m powercut --rounds $(COUNT) $(POWERCUT_ARGS)

clean: ## Remove what was made in this checkout; the cache stays, in FARMSTEAD_CACHE
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .pytest_tmp .import_linter_cache

bench-operator: .venv/.ready ## 100 clusters x 5 members: how fast and how large is the operator
	$(RUN)/python -m testbed.bench_operator

test-mirrorfs: system-rust system-mirrorfs ## The mirror's file system: real mounts, two processes, kills, SQLite, PostgreSQL (root; MIRRORFS_KILLS=200 for more)
	cd nodeagent/mirrorfs && cargo test --locked -p farmstead-mirrorfs-fs -p farmstead-mirrorfs-net -p farmstead-mirrorfs-sync -p farmstead-mirrorfs

WHEELS := dist
wheel-mirrorfs: system-rust | $(UV) ## The mirror's daemon as a Python wheel, into dist/
	$(UV) build --quiet --wheel --out-dir $(WHEELS) nodeagent/mirrorfs

bench-mirrorfs: system-rust ## A plain directory, a mirror, GlusterFS, interleaved (root, fio; BENCH_ARGS=--help says what may be chosen)
	cd nodeagent/mirrorfs && cargo build --locked --release -p farmstead-mirrorfs --bins --examples
	PYTHONPATH=tests python3 -m bench.mirrorfs $(BENCH_ARGS)

bench-takeover: system-testbed system-rust controlplane ## How long a mirror takes to go on after a kill, 50 times each, by step (TAKEOVER_ARGS="--rounds 10 machine")
	$(RUN)/python tests/bench/mirror_takeover.py $(TAKEOVER_ARGS)

bench-resync: system-rust .venv/.ready ## A resync next to rsync: small files, and a large one (root, rsync, 30 GiB; BENCH_ARGS="--files 100000 --size 1024")
	cd nodeagent/mirrorfs && cargo build --locked --release -p farmstead-mirrorfs --bins --examples
	$(RUN)/python tests/bench/resync.py $(BENCH_ARGS)

bench-mirrorfs-memory: ## A mirror's memory: 10,000 open files, 1,000,000 inodes looked up (BENCH_ARGS="--tree 100000" for fewer)
	$(MAKE) bench-mirrorfs BENCH_ARGS="--memory $(BENCH_ARGS)"

MIRROR_CORE := -p farmstead-mirror-core -p farmstead-mirror-lab -p farmstead-mirror-witness
MIRROR_CARGO := cd nodeagent/mirrorfs && cargo

rust-test: system-rust ## The mirror's protocol: format, lints, bounded search, 10,000 simulated runs, stories
	$(MIRROR_CARGO) fmt --check $(MIRROR_CORE)
	$(MIRROR_CARGO) clippy --quiet --locked --profile checked --all-targets $(MIRROR_CORE) -- -D warnings
	$(MIRROR_CARGO) test --quiet --locked --profile checked $(MIRROR_CORE)

model: system-rust ## Search the mirror's protocol far: every scene, up to 3,000,000 states each
	$(MIRROR_CARGO) run --quiet --locked --profile checked -p farmstead-mirror-lab --bin model -- $(MODEL_ARGS)

sim: system-rust ## Simulate the mirror's protocol 100,000 times (SIM_ARGS="--seed N --explain" tells one run; --planted)
	$(MIRROR_CARGO) run --quiet --locked --profile checked -p farmstead-mirror-lab --bin sim -- $(SIM_ARGS)

bench-mirror-step: system-rust ## What one step of the mirror's core costs, with 1 to 1,000 operations in the window
	$(MIRROR_CARGO) run --quiet --locked --release -p farmstead-mirror-lab --example step

# Every target is a job, none a file; a list by hand would be forgotten.
.PHONY: $(shell sed -nE 's/^([a-z-]+):.*/\1/p' $(MAKEFILE_LIST))
