"""What people write to get a scene: sentences from templates, with synonyms, word order and now and then a typo."""

from __future__ import annotations

import random

from safeflux.mini.world import BACKGROUNDS, CHARACTERS, COLOURS, GENERIC, PLAIN, STYLES, THINGS, Item, Scene
from safeflux.prompts import OPENINGS, article
from safeflux.prompts import STYLES as STYLE_SENTENCES

SYNONYMS: dict[str, tuple[str, ...]] = {
    "sword": ("blade",),
    "gun": ("pistol", "hand gun"),
    "bomb": ("explosive",),
    "skull": ("death's head",),
    "pill": ("capsule",),
    "cross": ("crucifix",),
    "arrow": ("pointer",),
    "star": ("five pointed star",),
    "flower": ("blossom",),
    "sun": ("sunburst",),
    "moon": ("crescent",),
    "heart": ("love heart",),
    "tree": ("pine",),
    "house": ("cottage",),
    "fish": ("goldfish",),
    "cat": ("kitten",),
    "cup": ("mug",),
    "key": ("door key",),
    "car": ("automobile",),
    "boat": ("sailing ship",),
    "umbrella": ("parasol",),
    "mushroom": ("toadstool",),
    "crown": ("royal crown",),
    "apple": ("ripe fruit",),
    "circle": ("disc",),
    "square": ("quadrangle",),
    "triangle": ("three sided figure",),
    "captain comet": ("the comet hero",),
    "rusty robot": ("the rust droid",),
    "baron bramble": ("the bramble lord",),
    "sketch": ("pencil drawing",),
    "neon": ("glowing tube light",),
    "watercolor": ("water painting",),
    "pixel art": ("8 bit game",),
    "blueprint": ("technical plan",),
    "sepia": ("vintage photograph",),
}
GENERIC_WORDS = ("a shape", "an object", "something", "a thing", "a figure")

_BACKGROUND_WORDS: dict[str, tuple[str, ...]] = {
    "white": ("on a white background", "on white paper"),
    "meadow": ("in a meadow", "on the grass"),
    "night": ("at night", "under the stars"),
    "beach": ("on the beach", "by the sea"),
    "sky": ("in the sky", "in the air"),
    "checkered": ("on a checkered floor", "on tiles"),
}
_PAIRS = ("{a} and {b}", "{a} next to {b}", "{a} beside {b}", "{a} on the left and {b} on the right", "{a} with {b}")
_EMPTY = ("nothing", "an empty scene", "no objects", "only the background")


def noun(form: str, rng: random.Random, synonym: float) -> str:
    """``form`` or, with probability ``synonym``, another name for it, with its article."""
    word = rng.choice(SYNONYMS[form]) if rng.random() < synonym else form
    if form in CHARACTERS or word.startswith("the "):
        return word
    return article(word)


def phrase(item: Item, rng: random.Random, synonym: float) -> str:
    words = noun(item.form, rng, synonym)
    if item.colour and item.form not in CHARACTERS:
        bare = words.split(" ", 1)[1] if words.startswith(("a ", "an ")) else words
        words = article(f"{item.colour} {bare}")
    where = {"top": " at the top", "bottom": " at the bottom", "left": " on the left", "right": " on the right"}
    return words + where.get(item.place, "")


def caption(scene: Scene, rng: random.Random, *, synonym: float = 0.3, typo: float = 0.03, generic: bool = False) -> str:
    """A natural sentence for ``scene``. ``generic`` writes "a shape" and the like in place of the form's name."""
    match scene.items:
        case ():
            core = rng.choice(_EMPTY)
        case (one,):
            core = rng.choice(GENERIC_WORDS) if generic else phrase(one, rng, synonym)
        case (left, right):
            core = rng.choice(_PAIRS).format(
                a=phrase(Item(left.form, left.colour), rng, synonym), b=phrase(Item(right.form, right.colour), rng, synonym)
            )
        case _:
            raise ValueError(f"a scene holds at most two items, this one {len(scene.items)}")
    if scene.background != "white" or rng.random() < 0.15:
        core = f"{core} {rng.choice(_BACKGROUND_WORDS[scene.background])}"
    if scene.style != PLAIN:
        style = rng.choice(SYNONYMS[scene.style]) if rng.random() < synonym else scene.style
        text = rng.choice(STYLE_SENTENCES).format(s=style, x=core)
    else:
        text = rng.choice(OPENINGS).format(core)
    return misspell(text, rng) if rng.random() < typo else text


def misspell(text: str, rng: random.Random) -> str:
    """One slip of the keyboard: a letter dropped, doubled, or swapped with its neighbour."""
    at = [i for i in range(1, len(text) - 1) if text[i].isalpha() and text[i + 1].isalpha()]
    if not at:
        return text
    i = rng.choice(at)
    match rng.randrange(3):
        case 0:
            return text[:i] + text[i + 1 :]
        case 1:
            return text[:i] + text[i] + text[i:]
        case _:
            return text[:i] + text[i + 1] + text[i] + text[i + 2 :]


def random_scene(rng: random.Random) -> tuple[Scene, bool]:
    """A scene of the training distribution, and whether its caption must stay generic.

    Pairs are most of it, since they are what takes longest to learn; half of them are kept plain.
    """
    kind = rng.random()
    plain = kind < 0.30
    background = rng.choice(BACKGROUNDS) if rng.random() < (0.25 if plain else 0.5) else "white"
    style = rng.choice(STYLES) if rng.random() < (0.1 if plain else 0.4) else PLAIN
    if style in ("sketch", "neon", "blueprint"):
        background = "white"
    if kind < 0.60:
        left, right = rng.sample([*THINGS, *CHARACTERS], 2)
        return Scene((_coloured(left, rng, "left"), _coloured(right, rng, "right")), background, style), False
    if kind < 0.63:
        return Scene((), background, style), False
    if kind < 0.67:
        return Scene((Item(rng.choice(GENERIC)),), background, style), True
    if kind < 0.74:
        return Scene((Item(rng.choice(list(CHARACTERS))),), background, style), False
    place = rng.choice(("left", "right", "top", "bottom")) if rng.random() < 0.15 else "center"
    return Scene((_coloured(rng.choice(list(THINGS)), rng, place),), background, style), False


def _coloured(form: str, rng: random.Random, place: str) -> Item:
    colour = rng.choice(list(COLOURS)) if form in THINGS and rng.random() < 0.3 else None
    return Item(form, colour, place)
