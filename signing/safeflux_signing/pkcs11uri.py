"""The names of keys on tokens: ``pkcs11:token=Acme;object=release?module-path=/usr/lib/softhsm/libsofthsm2.so`` (RFC 7512).

Of the attributes that the RFC knows, those are read that name one token, one key on it, and the library that reaches it. Any
other is refused, for a name of which a part is not looked at could mean another key. A PIN never stands in a name: names end
up in command lines, policies and logs.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote_to_bytes

from safeflux_signing.errors import SigningError, refusal

SCHEME = "pkcs11:"
MODULE = "SAFEFLUX_PKCS11_MODULE"
"""The environment variable that names the library where a name does not."""

_PATH = ("token", "serial", "object", "id", "type")
_PINS = ("pin-value", "pin-source")


@dataclass(frozen=True)
class TokenUri:
    """A key by its ``label`` or ``id``, on the token with this label or ``serial``, through the vendor's library ``module``."""

    module: Path
    token: str | None = None
    label: str | None = None
    serial: str | None = None
    id: bytes | None = None

    def __str__(self) -> str:
        named = {"token": self.token, "serial": self.serial, "object": self.label, "id": self.id}
        return SCHEME + ";".join(f"{name}={quote(value, safe='')}" for name, value in named.items() if value is not None)


def parse(text: str) -> TokenUri:
    """The key that ``text`` names. Raises InputError (token-name)."""
    path, _, query = text.removeprefix(SCHEME).partition("?")
    given = {**_attributes(path, ";", text), **_attributes(query, "&", text)}
    if pins := [name for name in _PINS if name in given]:
        raise _wrong(_without_pin(text), f"{pins[0]} has no place in the name of a key: others read it there")
    if unknown := sorted(given.keys() - {*_PATH, "module-path"}):
        raise _wrong(text, f"the attribute {unknown[0]} is not known here", expected=", ".join((*_PATH, "module-path")))
    if given.get("type", b"private") != b"private":
        raise _wrong(text, "not a private key", expected="type=private", actual=_text(given["type"], text))
    module = _text(given["module-path"], text) if "module-path" in given else os.environ.get(MODULE, "")
    if not module:
        raise _wrong(text, "no library is named that reaches the token", expected=f"?module-path=/path/to/library.so, or ${MODULE}")
    if "object" not in given and "id" not in given:
        raise _wrong(text, "no key is named", expected="object=LABEL or id=%01%02")
    token, label, serial = (_text(given[name], text) if name in given else None for name in ("token", "object", "serial"))
    return TokenUri(Path(module), token, label, serial, given.get("id"))


def _attributes(part: str, separator: str, text: str) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for one in part.split(separator) if part else ():
        name, equals, value = one.partition("=")
        if not equals or not name or not value:
            raise _wrong(_without_pin(text), "wanted attributes of the form name=value", actual=name)
        if name in found:
            raise _wrong(_without_pin(text), f"the attribute {name} stands twice")
        found[name] = unquote_to_bytes(value)
    return found


def _text(value: bytes, text: str) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _wrong(text, "an attribute is not UTF-8") from error


def _without_pin(text: str) -> str:
    """``text`` without what could be a PIN: errors are printed and logged."""
    head, found, _ = text.partition("pin-")
    return f"{head}{found}..." if found else text


def _wrong(text: str, what: str, *, expected: str | None = None, actual: str | None = None) -> SigningError:
    return refusal("token-name", text, what, expected=expected, actual=actual)
