.PHONY: check lint test fuzz release-demo

check: lint test

lint:
	ruff check .
	ruff format --check .
	mypy
	lint-imports

test:
	pytest

fuzz:
	for target in bundle manifest claims; do python fuzz/parsers.py $$target --seconds 60 || exit 1; done

release-demo:
	safeflux release policies/demo.yaml
