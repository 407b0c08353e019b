# The commands of the README: `make run` and `make test`, which install first, and `make install`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed
EXTRAS := $(VENV)/extras
PIP := $(BIN)/pip --disable-pip-version-check

.PHONY: run install extras test lint wheels faults clean

# Train on real images with the full method: scikit-learn's handwritten digits, two CPU cores.
run: install
	$(BIN)/python experiment/cifar/main.py --dataset Digits --arch resnet18 --width 16 --T 4 \
	  --train_batch_size 32 --num_epoch 12 --num_workers 0 --log_path runs

# What training takes; `extras`: export formats and tests beside it.
install: $(INSTALLED)
extras: $(EXTRAS)

# Lint, then every test, on as many processes as there are processors, one thread each.
test: extras lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal

lint: extras
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

$(INSTALLED): requirements.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet -r requirements.txt
	touch $(INSTALLED)

$(EXTRAS): requirements-extra.txt $(INSTALLED)
	$(PIP) install --quiet -r requirements-extra.txt
	touch $(EXTRAS)

# Whether every version in the requirements has a wheel for every Python that is supported.
wheels: install
	for version in 3.11 3.12 3.13; do \
	  $(PIP) install --dry-run --ignore-installed --quiet --only-binary=:all: \
	    --python-version $$version --target $(VENV)/none -r requirements-extra.txt \
	  && echo "Python $$version: a wheel of everything" || exit 1; \
	done

# Break runs on purpose and count what was held (docs/reliability.md); about 20 minutes.
faults: extras
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/fault --faults --seed 1

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache
