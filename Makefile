# `make demo` and `make test` need Python 3.11 to 3.13 with pip; they install everything else in .venv.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-fast lint notebooks docs wheel install clean

demo: install
	$(BIN)/wing-jax train synthetic
	$(BIN)/wing-jax evaluate runs/synthetic/model --data synthetic --faces 300

test: install
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder \
	  --jaxtyping-packages=wing_jax,beartype.beartype

test-fast: install
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile -m "not slow"

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell
	$(BIN)/pyrefly check

notebooks: install
	$(BIN)/jupytext --quiet --to ipynb --update notebooks/*.py
	$(BIN)/jupyter execute --inplace notebooks/*.ipynb

docs: install
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

# Includes the CPU kernel, so the wheel is for this platform only.
wheel: install
	WING_JAX_BUILD_KERNEL=1 $(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist .

install: .venv/installed

.venv/installed: requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

clean:
	rm -rf .venv runs
