.PHONY: lint test benchmark

lint:
	ruff check .
	ruff format --check .
	mypy

test:
	python -m pytest

benchmark:
	python benchmarks/step_time.py
