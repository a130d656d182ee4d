# make run   a tagger from captions, on any machine, with the packaged miniature models
# make test  style, types and tests
# make docs  the documentation site, in site/
# Each makes .venv first. PYTHON=python3.12 chooses another interpreter.

PYTHON ?= python3
BIN := .venv/bin

.PHONY: run test docs clean

run: .venv/installed
	$(BIN)/t2ipal run --classes voc2007 --captions examples/captions.txt \
	  --steps 12 --train.epochs 10 --data miniature:1000 --also miniature:style:1000 \
	  --real-data miniature:600 \
	  --out runs/miniature

test: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest

docs: .venv/installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# torch and torchvision are resolved together, so that they match.
.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet torch torchvision
	$(BIN)/pip install --quiet --editable '.[generate,onnx,datasets,ray,dev]'
	touch $@

.venv/installed-docs: .venv/installed
	$(BIN)/pip install --quiet --editable '.[docs]'
	touch $@

clean:
	rm -rf .venv runs site
