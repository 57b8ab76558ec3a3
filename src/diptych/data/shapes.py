"""Drawn shapes with captions: what micro-GenEval trains on, and the truth its detector is measured by.

A scene is a few shapes, none touching another, on plain grey. Everything about it is known, so captions can be as dense as
wanted, and a prompt of GenEval's six kinds can be turned into a picture that fits it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np

from diptych.data.records import Record

Split = Literal["train", "novel"]

BACKGROUND = (160, 160, 160)
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (220, 30, 30),
    "orange": (245, 135, 20),
    "yellow": (250, 220, 40),
    "green": (40, 160, 60),
    "blue": (35, 75, 215),
    "purple": (125, 45, 165),
    "pink": (245, 130, 190),
    "brown": (120, 70, 30),
    "black": (15, 15, 15),
    "white": (250, 250, 250),
}
SHAPES = ("circle", "square", "triangle", "star", "cross", "ring")
NOVEL = frozenset((shape, tuple(COLOURS)[(3 * i + shift) % 10]) for i, shape in enumerate(SHAPES) for shift in (0, 5))
"""The 12 of 60 pairs (shape, colour) that training scenes never hold; each shape and each colour is seen in other pairs."""
NUMBERS = ("no", "one", "two", "three", "four")
TAGS = ("single_object", "two_object", "counting", "colors", "position", "color_attr")
RELATIONS = {"left of": (-1, 0), "right of": (1, 0), "above": (0, -1), "below": (0, 1)}

GAP = 0.05  # between bounding circles, in sides of the picture
OVERSAMPLE = 4
_PLACES = (("upper left", "top", "upper right"), ("left", "centre", "right"), ("lower left", "bottom", "lower right"))


@dataclass(frozen=True)
class Shape:
    """One drawn thing; lengths in sides of the picture, origin at the upper left.

    Args:
        kind: one of `SHAPES`. colour: one of `COLOURS`.
        x, y: centre of the bounding circle. radius: of it.
    """

    kind: str
    colour: str
    x: float
    y: float
    radius: float

    @property
    def words(self) -> str:
        return f"{self.colour} {self.kind}"

    @property
    def large(self) -> bool:
        return self.radius > 0.14


def coverage(kind: str, x: float, y: float, radius: float, size: int) -> np.ndarray:
    """How much of every pixel a shape covers, (size, size) in [0, 1]; lengths in sides of the picture."""
    from PIL import Image, ImageDraw

    big = size * OVERSAMPLE
    canvas = Image.new("L", (big, big))
    pen = ImageDraw.Draw(canvas)
    cx, cy, r = x * big - 0.5, y * big - 0.5, radius * big
    if kind in ("circle", "ring"):
        pen.ellipse((cx - r, cy - r, cx + r, cy + r), fill=255)
        if kind == "ring":
            hole = 0.55 * r
            pen.ellipse((cx - hole, cy - hole, cx + hole, cy + hole), fill=0)
    else:
        pen.polygon([(cx + r * u, cy + r * v) for u, v in _outline(kind)], fill=255)
    return np.asarray(canvas, np.float64).reshape(size, OVERSAMPLE, size, OVERSAMPLE).mean((1, 3)) / 255.0


def _outline(kind: str) -> list[tuple[float, float]]:
    """Corners within the unit circle, y downwards."""
    if kind == "square":
        side = math.sqrt(0.5)
        return [(-side, -side), (side, -side), (side, side), (-side, side)]
    if kind == "cross":
        arm, end = 0.3, math.sqrt(1 - 0.3**2)
        quarter = [(-arm, -end), (arm, -end), (arm, -arm)]
        return [_turned(u, v, n * math.pi / 2) for n in range(4) for u, v in quarter]
    if kind == "triangle":
        return [_turned(0.0, -1.0, n * 2 * math.pi / 3) for n in range(3)]
    return [_turned(0.0, -(1.0, 0.42)[n % 2], n * math.pi / 5) for n in range(10)]  # star


def _turned(u: float, v: float, angle: float) -> tuple[float, float]:
    return u * math.cos(angle) - v * math.sin(angle), u * math.sin(angle) + v * math.cos(angle)


def draw(scene: tuple[Shape, ...], size: int = 64) -> np.ndarray:
    """The picture of a scene, (size, size, 3) uint8."""
    pixels = np.broadcast_to(np.array(BACKGROUND, np.float64), (size, size, 3))
    for shape in scene:
        cover = coverage(shape.kind, shape.x, shape.y, shape.radius, size)[..., None]
        pixels = (1 - cover) * pixels + cover * np.array(COLOURS[shape.colour], np.float64)
    return np.rint(pixels).astype(np.uint8)


def relation(a: Shape, b: Shape) -> str:
    """Where `a` is as seen from `b`: a key of `RELATIONS` if it lies within 30 degrees of that axis, else nothing."""
    dx, dy = a.x - b.x, a.y - b.y
    far = math.cos(math.pi / 6) * math.hypot(dx, dy)
    return next((words for words, (u, v) in RELATIONS.items() if dx * u + dy * v > far), "")


def captions(scene: tuple[Shape, ...]) -> tuple[str, ...]:
    """Wordings of a training scene from bare to dense, the last the densest; all true."""
    first = scene[0]
    if all(shape.words == first.words for shape in scene):
        bare, coloured = _counted(len(scene), first.kind), _counted(len(scene), first.words)
        return (bare, coloured, f"a drawing of {coloured} on grey", dense(scene))
    bare = " and ".join(f"a {shape.kind}" for shape in scene)
    coloured = " and ".join(_one(shape.words) for shape in scene)
    found = [bare, coloured, f"a drawing of {coloured} on grey"]
    if len(scene) == 2 and (where := relation(*scene)):
        found += [f"{_one(scene[0].words)} {where} {_one(scene[1].words)}", f"a {scene[0].kind} {where} a {scene[1].kind}"]
    return (*found, dense(scene))


def dense(scene: tuple[Shape, ...]) -> str:
    """The whole scene in one paragraph: how many, each one's size, colour and place, and their relations."""
    things = "one shape" if len(scene) == 1 else f"{NUMBERS[len(scene)]} shapes that do not touch"
    parts = [f"A clean drawing on a plain grey background shows exactly {things}."]
    parts += [f"There is a {'large' if shape.large else 'small'} {shape.words} {_place(shape)}." for shape in scene]
    for a, b in pairwise(scene):
        if (where := relation(a, b)) and a.words != b.words:
            parts.append(f"The {a.words} is {where} the {b.words}.")
    if len(scene) > 1 and len({shape.words for shape in scene}) == 1:
        parts.append(f"Together they are {_counted(len(scene), scene[0].words)}.")
    return " ".join(parts)


def _place(shape: Shape) -> str:
    row, column = (min(2, int(3 * value)) for value in (shape.y, shape.x))
    words = _PLACES[row][column]
    return "in the centre" if words == "centre" else f"at the {words}"


def _one(words: str) -> str:
    return f"an {words}" if words[0] in "aeiou" else f"a {words}"


def _counted(count: int, words: str) -> str:
    plural = words + ("es" if words.endswith("s") else "s")
    return _one(words) if count == 1 else f"{NUMBERS[count]} {plural}"


def training_scene(index: int, seed: int = 0) -> tuple[Shape, ...]:
    """Scene `index` of an endless stream: alike shapes (1 to 4 of them) or two of different kinds; no pair of `NOVEL`."""
    rng = np.random.default_rng([seed, 0, index])
    if rng.random() < 0.5:
        pairs = [_pair(rng, "train")] * int(rng.integers(1, 5))
    else:
        pairs = [_pair(rng, "train"), _pair(rng, "train")]
        while pairs[1][0] == pairs[0][0]:
            pairs[1] = _pair(rng, "train")
    return _placed(pairs, rng)


def prompts(count: int, split: Split = "train", seed: int = 0) -> list[dict[str, Any]]:
    """`count` test prompts of every tag, as GenEval writes its own: {"tag", "include", "exclude"?, "prompt"}.

    Args:
        split: "train": pairs of shape and colour that training has seen (in other pictures); "novel": pairs it has not. Tags
            without colour have the same prompts in both.
    """
    found = []
    for number, tag in enumerate(TAGS):
        rng = np.random.default_rng([seed, 1 + number])
        found += [_prompt(tag, rng, split) for _ in range(count)]
    return found


def _prompt(tag: str, rng: np.random.Generator, split: Split) -> dict[str, Any]:
    a, b = (str(kind) for kind in rng.permutation(SHAPES)[:2])
    first: dict[str, Any] = {"class": a, "count": 1}
    second: dict[str, Any] = {"class": b, "count": 1}
    if tag == "single_object":
        return {"tag": tag, "include": [first], "prompt": f"a {a}"}
    if tag == "counting":
        count = int(rng.integers(2, 5))
        exclude = [{"class": a, "count": count + 1}]
        return {"tag": tag, "include": [{"class": a, "count": count}], "exclude": exclude, "prompt": _counted(count, a)}
    if tag == "two_object":
        return {"tag": tag, "include": [first, second], "prompt": f"a {a} and a {b}"}
    if tag == "position":  # the second clause is placed by the first, as GenEval writes it
        where = str(rng.choice(list(RELATIONS)))
        return {"tag": tag, "include": [first, {**second, "position": [where, 0]}], "prompt": f"a {b} {where} a {a}"}
    a, colour = _pair(rng, split)
    first = {"class": a, "count": 1, "color": colour}
    if tag == "colors":
        return {"tag": tag, "include": [first], "prompt": _one(f"{colour} {a}")}
    b, other = _pair(rng, split)
    while b == a or other == colour:
        b, other = _pair(rng, split)
    second = {"class": b, "count": 1, "color": other}
    return {"tag": tag, "include": [first, second], "prompt": f"{_one(f'{colour} {a}')} and {_one(f'{other} {b}')}"}


def fitting(prompt: Mapping[str, Any], index: int = 0, seed: int = 0) -> tuple[Shape, ...]:
    """A scene that a prompt of `prompts` describes, what it leaves open chosen at random.

    Drawn, it is a right picture to hold a detector against; its `dense` caption is what a rewriter that never errs would say.
    """
    rng = np.random.default_rng([seed, 7, index])
    pairs, where = [], ""
    for clause in prompt["include"]:
        colour = clause.get("color") or str(rng.choice(list(COLOURS)))
        pairs += [(clause["class"], colour)] * clause["count"]
        where = clause.get("position", (where,))[0]
    while True:
        scene = _placed(pairs, rng)
        if not where or relation(scene[1], scene[0]) == where:
            return scene


def _pair(rng: np.random.Generator, split: Split) -> tuple[str, str]:
    while True:
        kind, colour = SHAPES[int(rng.integers(len(SHAPES)))], tuple(COLOURS)[int(rng.integers(len(COLOURS)))]
        if ((kind, colour) in NOVEL) == (split == "novel"):
            return kind, colour


def _placed(pairs: list[tuple[str, str]], rng: np.random.Generator) -> tuple[Shape, ...]:
    """Centres and sizes by throwing afresh until nothing touches; shapes of one scene differ in size if at all by kind."""
    while True:
        large = {pair: rng.random() < 0.5 and len(pairs) < 4 for pair in dict.fromkeys(pairs)}
        found: list[Shape] = []
        for kind, colour in pairs:
            radius = float(rng.uniform(0.16, 0.2) if large[kind, colour] else rng.uniform(0.11, 0.13))
            for _ in range(50):
                x, y = (float(value) for value in rng.uniform(radius + GAP / 2, 1 - radius - GAP / 2, 2))
                if all(math.hypot(x - one.x, y - one.y) >= radius + one.radius + GAP for one in found):
                    found.append(Shape(kind, colour, x, y, radius))
                    break
        if len(found) == len(pairs):
            return tuple(found)


@dataclass(frozen=True)
class Shapes:
    """Training pictures with captions, any row by itself, as a source of records.

    Args:
        count: rows there are. size: pixels a side. seed: other pictures.
    """

    count: int = 100_000
    size: int = 64
    seed: int = 0
    name: str = "shapes"

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, row: int) -> Record:
        if not 0 <= row < self.count:
            raise IndexError(f"shapes: row {row} is not in 0..{self.count - 1}")
        scene = training_scene(row, self.seed)
        return Record(f"shapes/{self.seed}/{row}", draw(scene, self.size), captions(scene))
