"""The drawn world: what there is, what it is called, and how a scene becomes a picture.

Everything a prompt leaves open has one usual answer (a sword is steel, a page is white), so a picture follows from
its prompt but for a little jitter. That makes every concept exactly recognisable, and lets a small model learn them.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from safeflux.mini.characters import FIGURES
from safeflux.mini.forms import FORMS, Colour, Pen

SIZE = 64  # pixels a side
_OVER = 4  # supersampling of the drawing

COLOURS: dict[str, Colour] = {
    "red": (222, 45, 45),
    "orange": (245, 140, 35),
    "yellow": (250, 215, 50),
    "green": (50, 165, 70),
    "blue": (45, 95, 220),
    "purple": (140, 60, 190),
    "pink": (250, 140, 185),
    "brown": (135, 85, 45),
    "black": (45, 45, 50),
    "white": (250, 250, 250),
}
_STEEL: Colour = (175, 190, 205)

THINGS: dict[str, tuple[Colour, Colour]] = {  # name: usual main colour, accent
    "sword": (_STEEL, COLOURS["brown"]),
    "gun": ((95, 100, 110), COLOURS["brown"]),
    "bomb": (COLOURS["black"], _STEEL),
    "skull": ((240, 235, 215), COLOURS["black"]),
    "pill": (COLOURS["red"], COLOURS["white"]),
    "cross": (COLOURS["brown"], COLOURS["brown"]),
    "arrow": (COLOURS["green"], COLOURS["green"]),
    "star": (COLOURS["yellow"], COLOURS["yellow"]),
    "flower": (COLOURS["pink"], COLOURS["yellow"]),
    "sun": (COLOURS["orange"], COLOURS["yellow"]),
    "moon": ((245, 235, 150), COLOURS["white"]),
    "heart": (COLOURS["red"], COLOURS["red"]),
    "tree": (COLOURS["green"], COLOURS["brown"]),
    "house": ((235, 205, 160), COLOURS["red"]),
    "fish": (COLOURS["blue"], COLOURS["orange"]),
    "cat": (COLOURS["orange"], COLOURS["green"]),
    "cup": (COLOURS["blue"], COLOURS["white"]),
    "key": (COLOURS["yellow"], COLOURS["yellow"]),
    "car": (COLOURS["red"], COLOURS["black"]),
    "boat": (COLOURS["brown"], COLOURS["white"]),
    "umbrella": (COLOURS["purple"], COLOURS["purple"]),
    "mushroom": (COLOURS["red"], COLOURS["white"]),
    "crown": (COLOURS["yellow"], COLOURS["red"]),
    "apple": (COLOURS["green"], COLOURS["green"]),
    "circle": (COLOURS["pink"], COLOURS["pink"]),
    "square": (COLOURS["blue"], COLOURS["blue"]),
    "triangle": (COLOURS["purple"], COLOURS["purple"]),
}
GENERIC = ("circle", "square", "triangle")  # what "a shape" and the empty prompt draw
CHARACTERS: dict[str, tuple[Colour, Colour]] = {  # name: body, head
    "captain comet": (COLOURS["blue"], COLOURS["red"]),
    "rusty robot": (COLOURS["orange"], (150, 155, 160)),
    "baron bramble": (COLOURS["green"], COLOURS["purple"]),
}
STYLES = ("sketch", "neon", "watercolor", "pixel art", "blueprint", "sepia")
PLAIN = "plain"
BACKGROUNDS = ("white", "meadow", "night", "beach", "sky", "checkered")
LABELS = (*THINGS, *CHARACTERS, *STYLES)  # what the detectors look for, in this order

_GROUNDS: dict[str, tuple[Colour, Colour]] = {  # background: colour above and below the horizon
    "white": ((255, 255, 255), (255, 255, 255)),
    "meadow": ((190, 228, 250), (130, 200, 95)),
    "night": ((25, 28, 70), (25, 28, 70)),
    "beach": ((110, 190, 235), (240, 220, 155)),
    "sky": ((150, 210, 250), (150, 210, 250)),
    "checkered": ((225, 225, 225), (225, 225, 225)),
}
_PLACES = {"center": (0.5, 0.5), "left": (0.27, 0.5), "right": (0.73, 0.5), "top": (0.5, 0.28), "bottom": (0.5, 0.72)}


@dataclass(frozen=True)
class Item:
    """One thing or character; ``colour`` is None for its usual one."""

    form: str
    colour: str | None = None
    place: str = "center"


@dataclass(frozen=True)
class Scene:
    items: tuple[Item, ...]
    background: str = "white"
    style: str = PLAIN

    @property
    def labels(self) -> frozenset[str]:
        """What a detector should find."""
        return frozenset(i.form for i in self.items) | ({self.style} - {PLAIN})


def render(scene: Scene, rng: random.Random) -> NDArray[np.uint8]:
    """Draw ``scene`` with a little jitter: ``[SIZE, SIZE, 3]``, 0..255."""
    side = SIZE * _OVER
    image = Image.new("RGB", (side, side), (255, 255, 255))
    draw = ImageDraw.Draw(image)
    _background(draw, scene, side)
    for item in scene.items:
        _item(draw, scene, item, side, rng)
    return np.asarray(_finish(image, scene), dtype=np.uint8)


def _background(draw: ImageDraw.ImageDraw, scene: Scene, side: int) -> None:
    flat = {"sketch": (244, 244, 240), "neon": (14, 10, 28), "blueprint": (28, 60, 135)}.get(scene.style)
    if flat:
        draw.rectangle([0, 0, side, side], fill=flat)
        if scene.style == "blueprint":
            for at in range(0, side, side // 8):
                draw.line([at, 0, at, side], fill=(58, 92, 165), width=_OVER)
                draw.line([0, at, side, at], fill=(58, 92, 165), width=_OVER)
        return
    upper, lower = _GROUNDS[scene.background]
    draw.rectangle([0, 0, side, side], fill=upper)
    draw.rectangle([0, side * 5 // 8, side, side], fill=lower)
    cell = side // 8
    if scene.background == "night":
        for x, y in ((1, 1), (6, 1), (1, 6), (6, 6), (3, 0), (4, 7)):
            draw.ellipse([x * cell + 12, y * cell + 12, x * cell + 22, y * cell + 22], fill=(255, 250, 200))
    if scene.background == "checkered":
        for x in range(8):
            for y in range(x % 2, 8, 2):
                draw.rectangle([x * cell, y * cell, (x + 1) * cell - 1, (y + 1) * cell - 1], fill=(165, 165, 170))


def _item(draw: ImageDraw.ImageDraw, scene: Scene, item: Item, side: int, rng: random.Random) -> None:
    main, accent = (CHARACTERS | THINGS)[item.form]
    if item.colour:
        main = COLOURS[item.colour]
        accent = accent if accent != (CHARACTERS | THINGS)[item.form][0] else main
    main = tuple(min(255, max(0, c + rng.randint(-6, 6))) for c in main)  # type: ignore[assignment]
    line: Colour = (35, 30, 35)
    width = _OVER * 3 // 2
    match scene.style:
        case "sketch":
            main = accent = (244, 244, 240)
            line, width = (95, 95, 100), _OVER
        case "neon":
            line = max(main, accent, key=lambda c: max(c) - min(c)) if max(main) - min(main) < 40 else main
            line = tuple(min(255, 90 + c) for c in line)  # type: ignore[assignment]
            main = accent = (14, 10, 28)
        case "blueprint":
            main = accent = (28, 60, 135)
            line = (235, 240, 255)
        case "watercolor":
            main, accent = (tuple((2 * c + 255) // 3 for c in colour) for colour in (main, accent))  # type: ignore[assignment]
            line, width = tuple(c * 4 // 5 for c in main), _OVER  # type: ignore[assignment]
    x, y = _PLACES[item.place]
    scale = (0.39 if item.place == "center" else 0.25) * side * rng.uniform(0.95, 1.05)
    jitter = _OVER * 1.5
    (FORMS | FIGURES)[item.form](
        Pen(draw, x * side + rng.uniform(-jitter, jitter), y * side + rng.uniform(-jitter, jitter), scale, main, accent, line, width)
    )


def _finish(image: Image.Image, scene: Scene) -> Image.Image:
    if scene.style == "neon":
        glow = image.filter(ImageFilter.GaussianBlur(_OVER * 2.5))
        image = Image.fromarray(np.maximum(np.asarray(image), np.clip(np.asarray(glow).astype(np.int32) * 2 - 10, 0, 255).astype(np.uint8)))
    if scene.style == "watercolor":
        image = image.filter(ImageFilter.GaussianBlur(_OVER * 1.3))
        image = Image.blend(image, Image.new("RGB", image.size, (250, 244, 228)), 0.25)
    image = image.resize((SIZE, SIZE), Image.Resampling.BOX)
    if scene.style == "pixel art":
        image = (
            image.resize((SIZE // 4, SIZE // 4), Image.Resampling.BOX)
            .quantize(12)
            .convert("RGB")
            .resize((SIZE, SIZE), Image.Resampling.NEAREST)
        )
    if scene.style == "sepia":
        grey = np.asarray(image.convert("L"), dtype=np.float32)[..., None] / 255
        image = Image.fromarray((grey * np.array([246, 222, 178]) + (1 - grey) * np.array([62, 38, 20])).astype(np.uint8))
    return image
