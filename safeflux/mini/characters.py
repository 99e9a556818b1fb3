"""The characters of the drawn world: a fixed body, head and mark each. Which colours, ``world.CHARACTERS`` says."""

from __future__ import annotations

from collections.abc import Callable

from safeflux.mini.forms import Colour, Pen, Point, cross, heart, star


def _figure(p: Pen, head: Callable[[Pen], None], body: list[Point], mark: Callable[[Pen], None], mark_colour: Colour) -> None:
    """A character: body, head with two eyes, and a mark on the chest."""
    p.polygon(body)
    head(p)
    for x in (-0.16, 0.16):
        p.ellipse(x, -0.58, 0.07, 0.09, (255, 255, 255))
    mark(Pen(p.draw, p.x, p.y + 0.42 * p.scale, 0.34 * p.scale, mark_colour, mark_colour, p.line, p.width))


def captain_comet(p: Pen) -> None:
    _figure(
        p, lambda q: q.ellipse(0, -0.55, 0.42, 0.42, q.accent), [(-0.7, 0), (0.7, 0), (0.55, 0.98), (-0.55, 0.98)], star, (255, 220, 40)
    )


def rusty_robot(p: Pen) -> None:
    def head(q: Pen) -> None:
        q.stroke([(0, -0.9), (0, -1.0)], 0.1)
        q.box(-0.42, -0.92, 0.42, -0.2, q.accent)

    _figure(p, head, [(-0.62, -0.05), (0.62, -0.05), (0.62, 0.98), (-0.62, 0.98)], cross, (250, 250, 250))


def baron_bramble(p: Pen) -> None:
    _figure(
        p,
        lambda q: q.polygon([(-0.45, -0.2), (0, -1.05), (0.45, -0.2)], q.accent),
        [(0, -0.3), (0.85, 0.98), (-0.85, 0.98)],
        heart,
        (255, 150, 190),
    )


FIGURES: dict[str, Callable[[Pen], None]] = {
    "captain comet": captain_comet,
    "rusty robot": rusty_robot,
    "baron bramble": baron_bramble,
}
