"""The things of the drawn world: one short function each, in coordinates of [-1, 1].

A form is drawn with a :class:`Pen`, which knows where it stands on the canvas, how large it is, and which three
colours it may use: ``main`` (what a colour word in the prompt changes), ``accent`` and ``line``. Styles that keep
only outlines hand the pen the paper's colour for both fills, so no form needs to know about styles.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from PIL import ImageDraw

Colour = tuple[int, int, int]
Point = tuple[float, float]


@dataclass(frozen=True)
class Pen:
    """Draws in a local frame: x right, y down, the unit square's half side is ``scale`` canvas pixels."""

    draw: ImageDraw.ImageDraw
    x: float
    y: float
    scale: float
    main: Colour
    accent: Colour
    line: Colour
    width: int

    def at(self, points: list[Point]) -> list[Point]:
        return [(self.x + px * self.scale, self.y + py * self.scale) for px, py in points]

    def polygon(self, points: list[Point], fill: Colour | None = None) -> None:
        where = self.at(points)
        self.draw.polygon(where, fill=fill or self.main)
        self.draw.line([*where, where[0], where[1]], fill=self.line, width=self.width, joint="curve")

    def ellipse(self, x: float, y: float, rx: float, ry: float, fill: Colour | None = None) -> None:
        (x0, y0), (x1, y1) = self.at([(x - rx, y - ry), (x + rx, y + ry)])
        self.draw.ellipse([x0, y0, x1, y1], fill=fill or self.main, outline=self.line, width=self.width)

    def box(self, x0: float, y0: float, x1: float, y1: float, fill: Colour | None = None) -> None:
        self.polygon([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], fill)

    def stroke(self, points: list[Point], thickness: float = 0.0) -> None:
        width = max(self.width, round(thickness * self.scale))
        self.draw.line(self.at(points), fill=self.line, width=width, joint="curve")

    def arc(self, x: float, y: float, r: float, start: float, end: float, thickness: float = 0.0) -> None:
        (x0, y0), (x1, y1) = self.at([(x - r, y - r), (x + r, y + r)])
        width = max(self.width, round(thickness * self.scale))
        self.draw.arc([x0, y0, x1, y1], start, end, fill=self.line, width=width)


def _ring(n: int, outer: float, inner: float, turn: float = -90.0) -> list[Point]:
    """A closed zigzag of ``n`` teeth between two radii."""
    points = []
    for i in range(2 * n):
        r = outer if i % 2 == 0 else inner
        a = math.radians(turn + 180.0 * i / n)
        points.append((r * math.cos(a), r * math.sin(a)))
    return points


def sword(p: Pen) -> None:
    p.polygon([(0, -1), (0.16, -0.75), (0.16, 0.35), (-0.16, 0.35), (-0.16, -0.75)])
    p.box(-0.5, 0.35, 0.5, 0.53, p.accent)
    p.box(-0.11, 0.53, 0.11, 0.98, p.accent)


def gun(p: Pen) -> None:
    p.polygon([(-0.95, -0.45), (0.9, -0.45), (0.9, -0.05), (-0.95, -0.05)])
    p.polygon([(0.35, -0.05), (0.9, -0.05), (0.98, 0.75), (0.55, 0.75)], p.accent)
    p.arc(0.2, 0.06, 0.24, 20, 190, 0.1)


def bomb(p: Pen) -> None:
    p.box(-0.2, -0.62, 0.2, -0.35, p.accent)
    p.ellipse(0, 0.25, 0.68, 0.68)
    p.stroke([(0, -0.62), (0.12, -0.85), (0.42, -0.82)], 0.09)
    p.polygon([(q[0] * 0.3 + 0.6, q[1] * 0.3 - 0.75) for q in _ring(5, 1.0, 0.4)], (255, 170, 30))


def skull(p: Pen) -> None:
    p.box(-0.38, 0.3, 0.38, 0.9)
    p.ellipse(0, -0.15, 0.8, 0.72)
    p.ellipse(-0.33, -0.08, 0.22, 0.24, p.accent)
    p.ellipse(0.33, -0.08, 0.22, 0.24, p.accent)
    p.stroke([(-0.13, 0.6), (-0.13, 0.9)], 0.05)
    p.stroke([(0.13, 0.6), (0.13, 0.9)], 0.05)


def pill(p: Pen) -> None:
    p.ellipse(-0.5, 0, 0.45, 0.42)
    p.ellipse(0.5, 0, 0.45, 0.42, p.accent)
    p.box(-0.5, -0.42, 0.0, 0.42)
    p.box(0.0, -0.42, 0.5, 0.42, p.accent)


def cross(p: Pen) -> None:
    w, t = 0.26, 0.85
    p.polygon([(-w, -t), (w, -t), (w, -w), (t, -w), (t, w), (w, w), (w, t), (-w, t), (-w, w), (-t, w), (-t, -w), (-w, -w)])


def arrow(p: Pen) -> None:
    p.polygon([(-0.95, -0.2), (0.15, -0.2), (0.15, -0.62), (0.95, 0), (0.15, 0.62), (0.15, 0.2), (-0.95, 0.2)])


def star(p: Pen) -> None:
    p.polygon([(x, y + 0.08) for x, y in _ring(5, 1.0, 0.42)])


def flower(p: Pen) -> None:
    p.stroke([(0, 0.1), (0, 1.0)], 0.14)
    for i in range(5):
        a = math.radians(-90 + 72 * i)
        p.ellipse(0.43 * math.cos(a), -0.3 + 0.43 * math.sin(a), 0.29, 0.29)
    p.ellipse(0, -0.3, 0.24, 0.24, p.accent)


def sun(p: Pen) -> None:
    p.polygon(_ring(10, 1.0, 0.62), p.accent)
    p.ellipse(0, 0, 0.55, 0.55)


def moon(p: Pen) -> None:
    outer = [(0.85 * math.cos(math.radians(a)), 0.9 * math.sin(math.radians(a))) for a in range(70, 291, 10)]
    inner = [(0.28 + 0.62 * math.cos(math.radians(a)), 0.84 * math.sin(math.radians(a))) for a in range(270, 89, -10)]
    p.polygon([(x + 0.2, y) for x, y in outer + inner])


def heart(p: Pen) -> None:
    points = []
    for i in range(36):
        t = 2 * math.pi * i / 36
        x = 16 * math.sin(t) ** 3
        y = 13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)
        points.append((x / 17.5, -y / 17.5 - 0.05))
    p.polygon(points)


def tree(p: Pen) -> None:
    p.box(-0.16, 0.4, 0.16, 0.98, p.accent)
    p.polygon([(0, -1), (0.72, 0.5), (-0.72, 0.5)])


def house(p: Pen) -> None:
    p.box(-0.65, -0.1, 0.65, 0.85)
    p.polygon([(-0.9, -0.1), (0, -0.9), (0.9, -0.1)], p.accent)
    p.box(-0.18, 0.3, 0.18, 0.85, p.accent)


def fish(p: Pen) -> None:
    p.polygon([(0.35, 0), (0.98, -0.5), (0.98, 0.5)], p.accent)
    p.ellipse(-0.2, 0, 0.75, 0.48)
    p.ellipse(-0.58, -0.12, 0.09, 0.09, (255, 255, 255))


def cat(p: Pen) -> None:
    p.polygon([(-0.75, -0.95), (-0.2, -0.55), (-0.7, -0.1)])
    p.polygon([(0.75, -0.95), (0.2, -0.55), (0.7, -0.1)])
    p.ellipse(0, 0.15, 0.8, 0.7)
    p.ellipse(-0.3, 0.0, 0.13, 0.17, p.accent)
    p.ellipse(0.3, 0.0, 0.13, 0.17, p.accent)
    p.polygon([(-0.12, 0.3), (0.12, 0.3), (0, 0.45)], (240, 150, 160))


def cup(p: Pen) -> None:
    p.arc(0.55, 0.05, 0.35, -90, 90, 0.15)
    p.polygon([(-0.7, -0.6), (0.6, -0.6), (0.45, 0.75), (-0.55, 0.75)])
    p.ellipse(-0.05, -0.6, 0.65, 0.18, p.accent)


def key(p: Pen) -> None:
    p.box(-0.2, -0.12, 0.95, 0.12)
    p.box(0.45, 0.12, 0.6, 0.42)
    p.box(0.75, 0.12, 0.92, 0.48)
    p.ellipse(-0.5, 0, 0.45, 0.45)
    p.ellipse(-0.5, 0, 0.18, 0.18, (255, 255, 255))


def car(p: Pen) -> None:
    p.polygon([(-0.5, -0.1), (-0.3, -0.55), (0.3, -0.55), (0.55, -0.1)], (190, 225, 245))
    p.box(-0.95, -0.1, 0.95, 0.4)
    p.ellipse(-0.5, 0.42, 0.25, 0.25, p.accent)
    p.ellipse(0.5, 0.42, 0.25, 0.25, p.accent)


def boat(p: Pen) -> None:
    p.stroke([(0, 0.3), (0, -0.95)], 0.1)
    p.polygon([(0.08, -0.9), (0.75, 0.15), (0.08, 0.15)], p.accent)
    p.polygon([(-0.95, 0.3), (0.95, 0.3), (0.6, 0.85), (-0.6, 0.85)])


def umbrella(p: Pen) -> None:
    p.stroke([(0, -0.1), (0, 0.75)], 0.11)
    p.arc(0.18, 0.75, 0.18, 0, 180, 0.11)
    dome = [(0.95 * math.cos(math.radians(a)), 0.05 + 0.9 * math.sin(math.radians(a))) for a in range(180, 361, 12)]
    p.polygon([*dome, (0.48, -0.12), (0, 0.08), (-0.48, -0.12)])


def mushroom(p: Pen) -> None:
    p.box(-0.25, 0.05, 0.25, 0.9, (245, 232, 210))
    dome = [(0.9 * math.cos(math.radians(a)), 0.15 + 0.95 * math.sin(math.radians(a))) for a in range(180, 361, 12)]
    p.polygon(dome)
    p.ellipse(-0.35, -0.25, 0.15, 0.15, p.accent)
    p.ellipse(0.3, -0.3, 0.17, 0.17, p.accent)


def crown(p: Pen) -> None:
    p.polygon([(-0.85, 0.6), (-0.95, -0.5), (-0.42, 0.05), (0, -0.75), (0.42, 0.05), (0.95, -0.5), (0.85, 0.6)])
    p.ellipse(0, 0.32, 0.14, 0.14, p.accent)
    p.ellipse(-0.5, 0.32, 0.12, 0.12, p.accent)
    p.ellipse(0.5, 0.32, 0.12, 0.12, p.accent)


def apple(p: Pen) -> None:
    p.stroke([(0, -0.4), (0.1, -0.9)], 0.12)
    p.ellipse(0.38, -0.72, 0.28, 0.15, p.accent)
    p.ellipse(-0.28, 0.2, 0.55, 0.66)
    p.ellipse(0.28, 0.2, 0.55, 0.66)
    p.draw.ellipse([*p.at([(-0.6, -0.3)])[0], *p.at([(0.6, 0.72)])[0]], fill=p.main)


def circle(p: Pen) -> None:
    p.ellipse(0, 0, 0.82, 0.82)


def square(p: Pen) -> None:
    p.box(-0.75, -0.75, 0.75, 0.75)


def triangle(p: Pen) -> None:
    p.polygon([(0, -0.88), (0.92, 0.75), (-0.92, 0.75)])


FORMS: dict[str, Callable[[Pen], None]] = {
    f.__name__.replace("_", " "): f
    for f in (
        sword, gun, bomb, skull, pill, cross, arrow, star, flower, sun, moon, heart, tree, house, fish, cat, cup, key, car,
        boat, umbrella, mushroom, crown, apple, circle, square, triangle,
    )
}  # fmt: skip
