.PHONY: check lint test release-demo

check: lint test

lint:
	ruff check .
	ruff format --check .
	mypy
	lint-imports

test:
	pytest

release-demo:
	safeflux release policies/demo.yaml
