# make test    sets up .venv and runs every test
# make demo    sets up .venv and fits the feature maps that the repository carries
# Another Python: make test PYTHON=python3.12

PYTHON ?= python3
VENV := .venv
STAMP := $(VENV)/.installed

.PHONY: venv test demo lint format benchmark clean

venv: $(STAMP)

# The stamp comes last, so an installation that broke off is done again.
$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --no-input --quiet -e '.[test]'
	touch $@

# Files are shared out over processes; most of a test's time is compilation, on one core.
test: venv
	$(VENV)/bin/python -m pytest -n auto --maxprocesses=4 --dist=loadfile

demo: venv
	$(VENV)/bin/python run.py fit --config=configs/demo.py --workdir=runs/demo --overwrite

lint: venv
	$(VENV)/bin/python -m ruff check .
	$(VENV)/bin/python -m ruff format --check .

format: venv
	$(VENV)/bin/python -m ruff check --fix .
	$(VENV)/bin/python -m ruff format .

benchmark: venv
	$(VENV)/bin/python -m benchmarks.solver

# Back to a fresh clone, but for runs/.
clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
