# make demo    a local lab and one benchmark, from model to verified evidence
# make test    lint, types, import rules and all tests
# make bench   every bar of docs/performance.md, measured on this machine
# make setup   .venv with the `vlab` command; done by the two above

PYTHON ?= python3
VENV := .venv/bin
INPUTS := bin/setup requirements/uv.txt requirements/lab.txt pyproject.toml $(wildcard targets/*/*.toml)
COMPILE := $(VENV)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header

# An environment that was made elsewhere, before the checkout was moved, does not count.
ifneq ($(file <.venv/.made-in),$(CURDIR))
$(shell rm -f .venv/.lab .venv/.dev)
endif

.PHONY: setup demo test bench requirements clean

setup: .venv/.lab

demo: setup
	bin/demo

test: .venv/.dev
	$(VENV)/ruff check
	$(VENV)/ruff format --check
	$(VENV)/mypy
	PYTHONPATH=.:src $(VENV)/lint-imports
	$(VENV)/pytest tests/unit tests/integration

# Fetches ONNX Runtime for aarch64 where it can; without it those figures say that they are missing.
bench: .venv/.dev
	-$(VENV)/python -m benchmarks.versus.arm64
	$(VENV)/python -m benchmarks.compile

.venv/.lab: $(INPUTS)
	PYTHON=$(PYTHON) bin/setup lab
	@touch $@

.venv/.dev: $(INPUTS) requirements/dev.txt
	PYTHON=$(PYTHON) bin/setup dev
	@touch $@ .venv/.lab

# Pins everything again: the newest versions that requirements/*.in allow, unless the .txt files already name one.
requirements: .venv/.lab
	$(COMPILE) requirements/uv.in -o requirements/uv.txt
	$(COMPILE) requirements/lab.in -o requirements/lab.txt
	$(COMPILE) requirements/dev.in -c requirements/lab.txt -o requirements/dev.txt

clean:
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
