.PHONY: check lint test fuzz release-demo

check: lint test

lint:
	ruff check .
	ruff format --check .
	mypy
	lint-imports

test:
	pytest

FUZZED = bundle manifest claims commitment cosignatures rotation trust certificate
SECONDS_EACH = 75
fuzz:
	for target in $(FUZZED); do python fuzz/parsers.py $$target --guided --seconds $(SECONDS_EACH) || exit 1; done

release-demo:
	safeflux release policies/demo.yaml
