"""Names, JSON, reasons, and what the package may import or do."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
from signed_release import codes

import safeflux_signing
from safeflux_signing import errors, names, strictjson
from safeflux_signing.errors import SigningError, UnsafeReleaseError
from safeflux_signing.reasons import EXIT_CODES, REASONS

SOURCE = Path(safeflux_signing.__file__).parent
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "name", ["a", "a/b.c", "transformer/w-00001-of-2.safetensors", ".hidden", "caf\u00e9", "日本/語", "a b", "console"]
)
def test_ordinary_names_pass(name: str) -> None:
    assert names.complaint(name) is None


@pytest.mark.parametrize(
    ("code", "name"),
    [
        *(("name-absolute", name) for name in ("/", "/a", "//a", "/../a")),
        *(("name-parent", name) for name in ("..", "a/../b", "a/..", "../\\")),
        *(("name-control", name) for name in ("a\x00", "a\x7f", "a\u202eb", "a\u200bb", "\udcff", "a\n\\")),
        *(("name-not-nfc", name) for name in ("e\u0301", "e\u0301\\")),
        *(("name-backslash", name) for name in ("a\\b", "..\\a", "C:\\x")),
        *(("name-unsafe", name) for name in ("", "a/", "a//b", ".", "./a", "C:/x", "x" * 1025, "a/" * 40 + "a")),
        *(("name-unsafe", name) for name in ("a:b", "a*", "a?", "<a>", 'a"b', "a|b", "a.", "a ", "con", "NUL.txt", "x/com1", "...")),
    ],
)
def test_names_that_mean_something_else_somewhere_are_refused(code: str, name: str) -> None:
    assert (names.complaint(name) or ("", ""))[0] == code


def test_names_that_some_disk_takes_for_one_are_found() -> None:
    assert names.collisions(["vae/x", "Vae/y"]) == [("Vae", "vae")]
    assert names.collisions(["stra\u00dfe", "STRASSE"]) == [("STRASSE", "stra\u00dfe")]
    assert names.collisions(["Model.Sig"]) == [("model.sig", "Model.Sig")]
    assert names.collisions(["a/x", "a/y", "ab"]) == []


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b'{"a":1,"a":1}', "json-duplicate-key"),
        (b'[{"b":{"a":1,"a":2}}]', "json-duplicate-key"),
        (b'{"a":1,"\\u0061":2}', "json-duplicate-key"),
        pytest.param(b"[" * 65 + b"]" * 65, "json-too-deep", id="65 levels"),
        pytest.param(b"[" * 10**6, "json-too-deep", id="a million levels"),
        (b"NaN", "json-invalid"),
        (b"-Infinity", "json-invalid"),
        (b"1e999", "json-invalid"),
        pytest.param(b"9" * 5000, "json-invalid", id="5000 digits"),
        (b'"\\ud800"', "json-invalid"),
        (b'{"\\udfff":1}', "json-invalid"),
        (b"\xef\xbb\xbf{}", "json-invalid"),
        (b"\xff", "json-invalid"),
        (b"{} {}", "json-invalid"),
        (b"", "json-invalid"),
    ],
)
def test_ambiguous_json_is_refused(data: bytes, code: str) -> None:
    with pytest.raises(UnsafeReleaseError) as error:
        strictjson.loads(data, "x")
    assert codes(error.value) == {("x", code)}


def test_json_written_here_is_read_back() -> None:
    value: strictjson.Json = {"b": [1, 2.5, None, True, "\u00e9\x00\U0001f600"], "a": {}}
    assert strictjson.loads(strictjson.dumps(value), "x") == value
    assert strictjson.dumps(value).startswith(b'{"a":{},"b":[')
    assert strictjson.loads(b"[" * 64 + b"]" * 64, "x") is not None


def _codes_in_source() -> set[str]:
    """Every text that stands where a reason code stands, or looks like one, in the code of the package and of who refuses in its words."""
    texts = set()
    for path in (*SOURCE.glob("*.py"), ROOT / "safeflux" / "verify.py", ROOT / "cli" / "safeflux_cli" / "claim.py"):
        if path.name != "reasons.py":
            texts |= {
                node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant) and node.value in REASONS
            }
    return texts


def test_the_table_of_reasons_is_complete_and_has_nothing_dead() -> None:
    assert _codes_in_source() == REASONS.keys()
    assert {reason.kind for reason in REASONS.values()} == EXIT_CODES.keys() == errors.ERRORS.keys()
    assert {kind: error.exit_code for kind, error in errors.ERRORS.items()} == EXIT_CODES


def test_the_error_tree_in_the_docstring_is_the_one_in_the_code() -> None:
    assert errors.__doc__ is not None
    drawn = {word for word in errors.__doc__.split() if word.endswith("Error")}
    assert drawn == {name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, SigningError)}


def test_the_gravest_kind_decides_and_nothing_is_lost() -> None:
    found = [errors.found(code, "f", "w") for code in ("claim-missing", "file-changed", "signature-invalid")]
    assert isinstance(errors.gravest(found), errors.TamperedError)
    assert errors.gravest(found).findings == tuple(found)
    assert len(errors.found("bundle-version", "f", "w", actual="x" * 10**6).actual or "") < 400


def test_nothing_heavy_is_imported() -> None:
    program = (
        "import sys\n"
        "import safeflux_signing.sign, safeflux_signing.verify\n"
        "print([m for m in ('torch', 'numpy', 'diffusers', 'transformers', 'safeflux', 'click', 'asyncio') if m in sys.modules])"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == "[]"
