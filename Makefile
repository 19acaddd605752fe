# Two commands do everything on a fresh machine with Python 3.11: make demo, make check.
PYTHON ?= python3.11
VENV ?= .venv
# Libraries of the generation before, which tests load release files with.
export VENV_BEFORE ?= $(CURDIR)/.venv-before
export PYTHONSAFEPATH = 1

.PHONY: setup check docs faults fleet web demo study clean
setup: $(VENV)/.installed $(VENV_BEFORE)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --constraint constraints.txt "torch==2.13.0"
	$(VENV)/bin/pip install --quiet --constraint constraints.txt --editable ".[client,dev,docs]"
	touch $@

$(VENV_BEFORE)/.installed: constraints-before.txt
	$(PYTHON) -m venv $(VENV_BEFORE)
	$(VENV_BEFORE)/bin/pip install --quiet --constraint $< "torch==2.13.0"
	$(VENV_BEFORE)/bin/pip install --quiet --requirement $<
	touch $@

$(VENV)/.fuzzer: $(VENV)/.installed
	$(VENV)/bin/pip install --quiet --constraint constraints.txt --editable ".[client,dev,docs,faults]"
	touch $@

check: setup
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" ./check

# The site in build/site, without a warning; what its pages promise; the tutorials, typed to their end.
docs: setup
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --strict
	$(VENV)/bin/pytest -m "docs or not docs" tests/test_site.py tests/test_doc_commands.py tests/test_pages_run.py \
	  tests/test_tutorials.py $(DOCS)

faults: setup $(VENV)/.fuzzer
	$(VENV)/bin/pytest -m faults $(FAULTS)

fleet: setup
	$(VENV)/bin/pytest -m fleet tests/fleet $(FLEET)

# The page in Debian's chromium: the story from invite to release, and the pictures of docs/web.md.
web: setup
	@command -v chromium >/dev/null || if command -v apt-get >/dev/null; then \
	  apt-get install -y --no-install-recommends chromium; \
	else echo "make web drives chromium: install it so that 'chromium' is on the path" >&2; exit 1; fi
	$(VENV)/bin/pytest -m web tests/web_browser $(WEB)

demo: $(VENV)/.installed
	$(VENV)/bin/orthofed demo $(DEMO)

study: $(VENV)/.installed
	cd benchmarks && env -u PYTHONSAFEPATH ../$(VENV)/bin/python -m study $(STUDY)

clean:
	rm -rf $(VENV) $(VENV_BEFORE) build demo
