"""Where a private key is, as people write it: in a file, on a token (``pkcs11:...``), or behind a program (``exec:...``); or that there
is none, and who signs is somebody whom Sigstore certifies (``sigstore:``).

A program stands for every key service that has a command line, and for whatever a publisher writes for one that has none:

    exec:digest PUBLIC PROGRAM [ARGUMENT...]      the program reads the digest of what is to be signed
    exec:message PUBLIC PROGRAM [ARGUMENT...]     the program reads all of it

PUBLIC is the file with the public key, in PEM. Words are taken apart as a shell does it, quotes and all, but no shell is started.

    sigstore:          the public instance of Sigstore
    sigstore:FILE      another one, by its client trust config (JSON)
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from safeflux_signing.errors import SigningError, refusal

if TYPE_CHECKING:
    from safeflux_signing.pkcs11uri import TokenUri

PROGRAM = "exec:"
SIGSTORE = "sigstore:"
SCHEMES = ("pkcs11:", PROGRAM, SIGSTORE)
_READS = ("digest", "message")


@dataclass(frozen=True)
class ProgramName:
    """A key behind ``command``, whose public half lies in the file ``public``. ``reads``: "digest" or "message"."""

    reads: str
    public: Path
    command: tuple[str, ...]

    def __str__(self) -> str:
        """Without the arguments: errors are printed and logged, and somebody's password may be among them."""
        return f"{PROGRAM}{self.reads} {self.public} {self.command[0]}{' ...' if self.command[1:] else ''}"

    def written(self) -> str:
        """What ``named`` reads as this."""
        import shlex

        return f"{PROGRAM}{self.reads} {shlex.join((str(self.public), *self.command))}"

    def below(self, folder: Path) -> ProgramName:
        """The same with paths that start at ``folder``: of the public key, and of a program that is not looked for in $PATH."""
        first, *rest = self.command
        program = str(folder / Path(first).expanduser()) if "/" in first else first
        return replace(self, public=folder / self.public.expanduser(), command=(program, *rest))


@dataclass(frozen=True)
class SigstoreName:
    """An instance of Sigstore: that of the client trust config in the file ``config``, or the public one."""

    config: Path | None = None

    def __str__(self) -> str:
        return f"{SIGSTORE}{'' if self.config is None else self.config}"

    def written(self) -> str:
        """What ``named`` reads as this."""
        return str(self)

    def below(self, folder: Path) -> SigstoreName:
        """The same with a path that starts at ``folder``."""
        return self if self.config is None else SigstoreName(folder / self.config.expanduser())


KeyName: TypeAlias = "Path | TokenUri | ProgramName | SigstoreName"


def named(text: str) -> KeyName:
    """The path of a file, or the name of a key that lies in none. Raises InputError (token-name, program-name)."""
    if not text.startswith(SCHEMES):
        return Path(text)
    if text.startswith(PROGRAM):
        return _program(text)
    if text.startswith(SIGSTORE):
        config = text.removeprefix(SIGSTORE)
        return SigstoreName(Path(config) if config else None)
    from safeflux_signing.pkcs11uri import parse

    return parse(text)


def _program(text: str) -> ProgramName:
    import shlex  # as all that most keys do without: `safeflux verify` is to start at once

    try:
        reads, *words = shlex.split(text.removeprefix(PROGRAM)) or [""]
    except ValueError as error:
        raise _wrong(f"its quotes do not match: {error}") from error
    if reads not in _READS:
        raise _wrong("it does not say what the program reads", expected=" or ".join(_READS), actual=reads)
    if len(words) < 2 or not all(words[:2]):
        raise _wrong("no public key and program are named", actual=f"{len(words)} words")
    if "\0" in text:
        raise _wrong("no program takes an argument with a NUL in it")
    return ProgramName(reads, Path(words[0]), tuple(words[1:]))


def _wrong(what: str, *, expected: str | None = None, actual: str | None = None) -> SigningError:
    return refusal("program-name", f"{PROGRAM}...", what, expected=expected, actual=actual)
