# make test    sets up .venv and runs every test
# make demo    sets up .venv and shows the parts of the embedded generator of cats, where they are and what they do
# make figures makes the pictures and tables of the documentation anew from the embedded generator
# make docs    builds the documentation into docs/_build/html
# Another Python: make test PYTHON=python3.12

PYTHON ?= python3
EXTRAS ?= test
VENV := .venv
STAMP := $(VENV)/.installed

.PHONY: venv test demo figures docs wheel lint format benchmark clean

venv: $(STAMP)

# The stamp comes last, so an installation that broke off is done again.
$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --no-input --quiet -e '.[$(EXTRAS)]'
	touch $@

# Files are shared out over processes, the longest first; most of a test's time is compilation, on one core.
test: venv
	$(VENV)/bin/python -m pytest -n auto --maxprocesses=4 --dist=loadfile --no-loadscope-reorder

DEMO := runs/cats64

demo: venv
	$(VENV)/bin/python run.py fit --config=configs/cats64.py --workdir=$(DEMO) --overwrite
	$(VENV)/bin/python run.py saliency --workdir=$(DEMO) --appearance=0,1,2 --seeds=0-5 --overwrite
	$(VENV)/bin/python run.py edit --workdir=$(DEMO) --part=2,3 --appearance=2 --alpha=-2,-1,0,1,2 --seeds=0-3 --name=eyes --overwrite
	$(VENV)/bin/python run.py report --workdir=$(DEMO)
	@echo
	@echo 'Look at'
	@echo '  $(DEMO)/overlay.png               twelve parts over cats: 2 and 3 are the eyes, 9 the bridge of the nose, 10 the muzzle, 8 the forehead'
	@echo '  $(DEMO)/saliency-0+1+2-seeds0-5/saliency.png  where three appearances are, on six cats'
	@echo '  $(DEMO)/edits/eyes/strip.png      the eyes opened and closed with appearance 2; sweep.gif moves'
	@echo '  $(DEMO)/report.html               all of it on one page, with the commands'

# All but the comparison, 13 minutes more: make figures ONLY=compare. The card of the generator: ONLY=card DATA=cats64.zip.
figures: venv
	$(VENV)/bin/python -m benchmarks.figures $(if $(ONLY),--only=$(ONLY)) $(if $(DATA),--data=$(DATA))

$(VENV)/.installed-docs: $(STAMP)
	$(VENV)/bin/python -m pip install --no-input --quiet -e '.[docs]'
	touch $@

# Every warning is an error: a link that leads nowhere, a page that no other one names.
docs: $(VENV)/.installed-docs
	$(VENV)/bin/python -m sphinx --fail-on-warning --keep-going --fresh-env --quiet docs docs/_build/html
	@echo 'Open docs/_build/html/index.html'

# The package as others install it, with the embedded generator inside.
wheel: venv
	$(VENV)/bin/python -m pip wheel --no-input --quiet --no-deps --wheel-dir dist .

lint: venv
	$(VENV)/bin/python -m ruff check .
	$(VENV)/bin/python -m ruff format --check .
	$(VENV)/bin/python -m mypy
	$(VENV)/bin/python -m codespell_lib

format: venv
	$(VENV)/bin/python -m ruff check --fix .
	$(VENV)/bin/python -m ruff format .

benchmark: venv
	$(VENV)/bin/python -m benchmarks.solver

# Back to a fresh clone, but for runs/.
clean:
	rm -rf $(VENV) build dist docs/_build *.egg-info .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
