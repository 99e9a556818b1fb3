.PHONY: check lint test fuzz release-demo

check: lint test

lint:
	ruff check .
	ruff format --check .
	mypy
	lint-imports

test:
	pytest

SECONDS_EACH = 150
fuzz:
	for target in bundle manifest claims commitment; do python fuzz/parsers.py $$target --seconds $(SECONDS_EACH) || exit 1; done

release-demo:
	safeflux release policies/demo.yaml
