"""What the small release of these tests holds, and how to look at an error."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from safeflux_signing import claims
from safeflux_signing.errors import SigningError

MOMENT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
CLAIMS = (
    claims.provenance(build_type="https://example.org/b", builder="https://example.org/t", parameters={"rate": 0.5}),
    claims.outcome(configuration=[claims.resource("policy.yaml", {"sha256": "00" * 32})], passed=["dog"]),
    ("https://example.org/report/v1", {"verdict": "passed"}),
)
FILES = {
    "model_index.json": b'{"_class_name": "FluxPipeline"}\n',
    "transformer/config.json": b"{}\n",
    "transformer/weights.safetensors": bytes(range(256)) * 8,
    "a-b": b"1",
    "a/x": b"2",
    "empty.txt": b"",
}


def fill(directory: Path) -> Path:
    for name, data in FILES.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return directory


def codes(error: SigningError) -> set[tuple[str, str]]:
    """(file, code) of everything an error lists."""
    return {(finding.file, finding.code) for finding in error.findings}
