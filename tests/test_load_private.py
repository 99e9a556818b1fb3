"""Whoever can write to the private directory from which diffusers reads the small files is found out."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from diffusers import FluxPipeline
from loading import load

from safeflux.errors import TrustError
from safeflux.private import Private
from safeflux_signing.errors import TamperedError

CONFIG = "transformer/config.json"


def aside(place: Path) -> Path:
    """Where something of ``place`` can be put meanwhile."""
    return place.with_name(f"{place.name}-aside")


def change(place: Path) -> None:
    """Other values under the names that are there, so that the library finds nothing wrong."""
    path = place / CONFIG
    path.chmod(0o600)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"axes_dims_rope": [6, 4, 6]}))
    path.chmod(0o400)


def exchange(place: Path) -> None:
    other = Path(shutil.copy(place / CONFIG, aside(place)))
    other.chmod(0o400)
    other.replace(place / CONFIG)


def link(place: Path) -> None:
    (place / CONFIG).unlink()
    (place / CONFIG).symlink_to("../scheduler/scheduler_config.json")


def fill(place: Path) -> None:
    """Weights for whoever opens the file past us."""
    path = next((place / "vae").glob("*.safetensors"))
    path.chmod(0o600)
    path.write_bytes(b"weights")


CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "changed": (change, CONFIG),
    "exchanged": (exchange, CONFIG),
    "a link": (link, CONFIG),
    "removed": (lambda place: (place / CONFIG).unlink(), CONFIG),
    "added": (lambda place: (place / "transformer" / "more.json").write_text("{}"), "transformer/more.json"),
    "a folder added": (lambda place: (place / "more").mkdir(), "more"),
    "weights": (fill, "vae/diffusion_pytorch_model.safetensors"),
    "all of it": (lambda place: (place.rename(aside(place)), place.mkdir()), CONFIG),
}


@pytest.fixture
def while_loading(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Have something done in the private directory, at the moment when diffusers is told of it or when it has read everything."""
    real, places = FluxPipeline.from_pretrained, []

    def arrange(before: Callable[[Path], object] | None = None, after: Callable[[Path], object] | None = None) -> None:
        def hooked(directory: str, **options: Any) -> Any:
            places.append(Path(directory))
            if before:
                before(places[-1])
            pipeline = real(directory, **options)
            if after:
                after(places[-1])
            return pipeline

        monkeypatch.setattr(FluxPipeline, "from_pretrained", hooked)

    yield arrange
    assert places
    for place in places:
        assert not place.exists()
        shutil.rmtree(aside(place), ignore_errors=True)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("what", CHANGES)
def test_what_is_done_there_while_a_model_is_loaded_makes_it_fail(
    tiny_signed: Path, while_loading: Callable[..., None], what: str, when: str
) -> None:
    """Also where the library itself fails for it."""
    do, name = CHANGES[what]
    while_loading(**{when: do})
    with pytest.raises(TrustError, match="private copy was changed while") as caught:
        load(tiny_signed)
    assert f"{name}: its private copy was changed while the model was loaded from it [file-changed]" in str(caught.value)


@pytest.mark.parametrize("way", ["content", "name", "folder", "all of it"])
def test_what_was_changed_and_put_back_shows_too(tiny_signed: Path, while_loading: Callable[..., None], way: str) -> None:
    """Content, mode and times (those that can be set) are in the end what they were."""
    kept: dict[str, Any] = {}
    target = {"content": CONFIG, "name": CONFIG, "folder": "transformer", "all of it": "."}[way]

    def before(place: Path) -> None:
        path = place / target
        kept.update(data=(place / CONFIG).read_bytes(), times=path.stat(), folder=path.parent.stat())
        if way != "content":
            path.rename(aside(place))
            (shutil.copy if way == "name" else shutil.copytree)(aside(place), path)
        change(place)

    def after(place: Path) -> None:
        path = place / target
        if way == "content":
            path.chmod(0o600)
            path.write_bytes(kept["data"])
            path.chmod(0o400)
        else:
            path.unlink() if way == "name" else shutil.rmtree(path)
            aside(place).rename(path)
        for one, status in ((path, kept["times"]), (path.parent, kept["folder"])):
            if place in (one, *one.parents):
                os.utime(one, ns=(status.st_atime_ns, status.st_mtime_ns))
        assert (place / CONFIG).read_bytes() == kept["data"]
        assert (path.stat().st_mtime_ns, path.stat().st_mode) == (kept["times"].st_mtime_ns, kept["times"].st_mode)

    while_loading(before, after)
    with pytest.raises(TrustError, match=rf"{target}: its private copy was changed"):
        load(tiny_signed)


def test_where_nobody_touches_it_nothing_is_found(tiny_signed: Path, while_loading: Callable[..., None]) -> None:
    def look(place: Path) -> None:
        files = [path for path in place.rglob("*") if path.is_file()]
        assert len(files) > 10
        assert {path.stat().st_mode & 0o777 for path in files} == {0o400}
        assert place.stat().st_mode & 0o777 == 0o700

    while_loading(look, lambda place: [path.read_bytes() for path in place.rglob("*.json")])
    assert load(tiny_signed).transformer is not None


def test_content_is_looked_at_where_the_times_tell_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    private = Private()
    try:
        path = private.add("a/b.json", b"{}")
        monkeypatch.setattr(private, "_times", dict)
        with private.untouched():
            pass
        path.chmod(0o600)
        path.write_bytes(b"[]")
        with pytest.raises(TamperedError, match=r"a/b\.json: its private copy was changed"), private.untouched():
            pass
        with pytest.raises(FileExistsError):
            private.add("a/b.json", b"{}")
    finally:
        shutil.rmtree(private.path)


def test_an_error_of_the_library_s_own_is_passed_on() -> None:
    private = Private()
    try:
        with pytest.raises(OSError, match=r"^no$"), private.untouched():
            raise OSError("no")
    finally:
        shutil.rmtree(private.path)
