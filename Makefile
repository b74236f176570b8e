.PHONY: lint test soak coverage lowest dist benchmark pictures

lint:
	ruff check .
	ruff format --check .
	mypy
	lint-imports

test:
	python -m pytest

# More kills, workers and fuzzing than the tests before a commit: ten minutes and more.
soak:
	python -m pytest -m soak

# Needs pip install ".[dev]".
coverage:
	python -m pytest --cov --cov-report=term

# The suite on the oldest versions that setup.py allows, in a fresh environment; needs uv.
lowest:
	uv venv --clear .lowest
	uv pip install --python .lowest --resolution lowest-direct ".[test]"
	.lowest/bin/python -m pytest -o filterwarnings=default  # old libraries warn of newer ones

# Wheel and sdist, checked, and each tried in an empty environment.
dist:
	python -m build
	python -m twine check --strict dist/*
	.ci/try_dist dist/*.whl
	.ci/try_dist dist/*.tar.gz

benchmark:
	python benchmarks/step_time.py

# Those of docs/, from the runs recorded there.
pictures:
	python docs/draw.py
