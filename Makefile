# Two commands do everything on a fresh machine with Python 3.11: make demo, make check.
PYTHON ?= python3.11
VENV ?= .venv
export PYTHONSAFEPATH = 1

.PHONY: setup check faults demo clean
setup: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --constraint constraints.txt "torch==2.13.0"
	$(VENV)/bin/pip install --quiet --constraint constraints.txt --editable ".[client,dev]"
	touch $@

$(VENV)/.fuzzer: $(VENV)/.installed
	$(VENV)/bin/pip install --quiet --constraint constraints.txt --editable ".[client,dev,faults]"
	touch $@

check: setup
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" ./check

faults: setup $(VENV)/.fuzzer
	$(VENV)/bin/pytest -m faults $(FAULTS)

demo: setup
	$(VENV)/bin/orthofed demo $(DEMO)

clean:
	rm -rf $(VENV) build demo
