# Every task a person runs. `make` alone lists them.
PYTHON ?= python3
BIN ?= .venv/bin
SHELL := /bin/bash -o pipefail
.DEFAULT_GOAL := help
.PHONY: help reproduce test quick mutations coverage bench lab walk explore docs site new experiment export readme check hooks clean emoji

# glibc keeps the memory that large tensors free: on a virtual machine, being given it anew can take longer than the work (60_reproduce)
test quick coverage lab walk explore docs readme: export MALLOC_MMAP_THRESHOLD_ = 2000000000
test quick coverage lab walk explore docs readme: export MALLOC_TRIM_THRESHOLD_ = 8000000000
test quick coverage lab walk explore docs readme: export MALLOC_TOP_PAD_ = 268435456

help: ## list the tasks
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | awk -F'\t' '{printf "make %-11s %s\n", $$1, $$2}'

# made again when the pinned versions or the package's own settings change
.venv/ready: requirements.txt settings.ini setup.py pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "diml_nb needs Python 3.11 or newer; '$(PYTHON)' is $$(command -v $(PYTHON) >/dev/null && $(PYTHON) --version 2>&1 | head -1 || echo not installed). Try: make PYTHON=/path/to/python3.11"; exit 1; }
	@echo "setting up .venv (a few minutes, once)"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

reproduce: .venv/ready ## four experiments on the embedded images: what was asked, what came out, and is it what is committed?
	$(BIN)/diml reproduce --preset quick

# one worker a core, at most four, which need about 3 GB each; tests/conftest.py says which tests stay together
WORKERS := -n logical --maxprocesses 4 --dist loadscope --no-loadscope-reorder

test: .venv/ready ## all tests: units, parity, every notebook, papermill, command line, browser where there is one
	$(BIN)/python -m pytest $(WORKERS)

quick: .venv/ready ## the tests that a change can reach, the nearest first, in less than 90 seconds; SINCE=COMMIT: changed since then
	$(BIN)/python tests/quick.py $(if $(SINCE),--since '$(SINCE)')

mutations: .venv/ready ## change a copy of the library on purpose: do the pinned rows see bugs, and nothing else? (half an hour)
	$(BIN)/python tests/mutations.py

coverage: .venv/ready ## all tests again, and which lines of the library they run (processes that they start included)
	@mkdir -p data/cache/coverage && $(BIN)/coverage erase
	$(BIN)/coverage run -m pytest $(WORKERS)
	@$(BIN)/coverage combine --quiet && $(BIN)/coverage report

bench: .venv/ready ## speed and memory beside the official loop, POT and the limit of this machine: a record and a figure
	$(BIN)/python -m bench

lab: .venv/ready ## the book in JupyterLab
	$(BIN)/jupyter lab --ServerApp.root_dir=. nbs/index.ipynb

walk: .venv/ready ## the book from its first cell to its last, in JupyterLab on a clone: how long each notebook takes (half an hour, a record)
	$(BIN)/python docs/walk.py

explore: .venv/ready ## the explorers as a page, by Voila, for this machine only; RUN=FOLDER: of a network that `diml train` left there
	$(BIN)/diml explore $(if $(RUN),--run '$(RUN)')

# installed again when the pinned versions change; `npm ci` removes what is there before it fetches
docs/browser/node_modules/.package-lock.json: docs/browser/package-lock.json
	@npm ci --prefix docs/browser --silent --ignore-scripts --no-audit --no-fund || \
	  echo "npm could install no packages: the site is made without the page for pictures of your own"

docs: .venv/ready docs/browser/node_modules/.package-lock.json ## the book as a site: _docs/index.html (some minutes at first, then what has changed)
	$(BIN)/python docs/book.py _docs

site: docs ## the same

new: ## make new NAME=48_thing: a chapter from the template
	@[[ "$(NAME)" =~ ^[0-9]{2}_[a-z][a-z_]*$$ ]] || { echo "NAME: expected two digits and a word, as in 48_thing, got '$(NAME)'"; exit 1; }
	@[ ! -e nbs/$(NAME).ipynb ] || { echo "nbs/$(NAME).ipynb is there already"; exit 1; }
	@sed 's/NAME/$(NAME:$(firstword $(subst _, ,$(NAME)))_%=%)/' nbs/_template.ipynb > nbs/$(NAME).ipynb
	@echo "nbs/$(NAME).ipynb: write it, give it a row in nbs/contents.ipynb, then make export readme"

experiment: ## make experiment NAME=21_thing: an experiment of your own from the template (nbs/howto/own_experiment.ipynb)
	@[[ "$(NAME)" =~ ^[0-9]{2}_[a-z][a-z_]*$$ ]] || { echo "NAME: expected two digits and a word, as in 21_thing, got '$(NAME)'"; exit 1; }
	@[ ! -e nbs/reproduce/$(NAME).ipynb ] || { echo "nbs/reproduce/$(NAME).ipynb is there already"; exit 1; }
	@sed 's/NAME/$(NAME)/g' nbs/reproduce/_template.ipynb > nbs/reproduce/$(NAME).ipynb
	@grep -q '^| $(NAME) |' nbs/reproduce/VERSIONS.md || echo '| $(NAME) | 1 | first version |' >> nbs/reproduce/VERSIONS.md
	@echo "nbs/reproduce/$(NAME).ipynb: write it, and give it a row in nbs/contents.ipynb; then"
	@echo "  diml reproduce $(NAME) --preset smoke    run it at its smallest"
	@echo "  diml verify $(NAME) --pin                keep these rows: the tests compare with them"
	@echo "  git commit                                a record names the commit that made it"
	@echo "  diml reproduce $(NAME) --preset quick    measure"
	@echo "  diml publish $(NAME)                     copy record and figures to where git keeps them"

export: .venv/ready ## notebooks -> diml_nb/, outputs stripped
	$(BIN)/nbdev_export
	$(BIN)/nbdev_clean

readme: .venv/ready ## nbs/index.ipynb -> README.md and its first figure, nbs/results.ipynb -> RESULTS.md
	@for page in index:README results:RESULTS; do \
	  made=$$(mktemp) && DIML_QUIET=1 $(BIN)/jupyter nbconvert --execute --to markdown --log-level ERROR --stdout nbs/$${page%:*}.ipynb \
	    --TagRemovePreprocessor.remove_input_tags hide_input > $$made && \
	  sed -E 's#\]\(\.\./#](#g; s#\]\(results\.ipynb\)#](RESULTS.md)#g; s#\]\(([0-9a-z][^):]*)\.ipynb\)#](nbs/\1.ipynb)#g' $$made | cat -s > $${page#*:}.md && rm $$made || exit 1; \
	done

check: export readme ## is everything committed that is generated, and do ruff and mypy agree?
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check --quiet nbs tests bench docs setup.py || \
	  { echo "ruff format nbs tests bench docs setup.py would change something: run it and commit"; exit 1; }
	@$(BIN)/mypy --no-error-summary
	@changed=$$(git status --porcelain -- diml_nb nbs README.md RESULTS.md); [ -z "$$changed" ] || \
	  { echo "$$changed"; echo "generated files differ from what is committed: run 'make export readme' and commit"; exit 1; }

hooks: .venv/ready ## from now on git refuses commits that are not exported, or that ruff or mypy object to
	@$(BIN)/pre-commit install

emoji: .venv/ready ## build the embedded images again from their npm packages
	$(BIN)/diml data fetch emoji --fresh

clean: ## remove .venv, caches, executed notebooks and the site
	rm -rf .venv data/cache data/runs build _docs *.egg-info .pytest_cache
