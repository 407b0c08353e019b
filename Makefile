# The two commands of the README: `make run` and `make test`. Both install first if needed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed

.PHONY: run test lint faults clean

# Train on real images with the full method: scikit-learn's handwritten digits, two CPU cores.
run: $(INSTALLED)
	$(BIN)/python experiment/cifar/main.py --dataset Digits --arch resnet18 --width 16 --T 4 \
	  --train_batch_size 32 --num_epoch 12 --num_workers 0 --log_path runs

# Lint, then every test, on as many processes as there are processors, one thread each.
test: $(INSTALLED) lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

$(INSTALLED): requirements.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $(INSTALLED)

# Break runs on purpose and count what was held (docs/reliability.md); about 20 minutes.
faults: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/fault --faults --seed 1

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache
