"""Written words with captions: what micro-LongText trains on, and the truth its reader's ceiling is measured on.

A page is one to three short lines in one colour on another. The letters are the font that Pillow carries inside itself
(Aileron, CC0), so pages look the same wherever that Pillow runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from diptych.data.records import Record

Split = Literal["train", "novel"]

INKS: dict[str, tuple[int, int, int]] = {
    "black": (10, 10, 10),
    "red": (190, 20, 30),
    "blue": (25, 50, 180),
    "green": (10, 100, 45),
    "purple": (105, 25, 140),
}
PAPERS: dict[str, tuple[int, int, int]] = {
    "white": (252, 252, 252),
    "yellow": (252, 236, 120),
    "pink": (250, 205, 220),
    "pale blue": (200, 225, 250),
}
_WRITTEN = """
ACT AGE AIR ANT APPLE ARM ART ASH AUTUMN BAG BAKE BALL BAND BANK BARN BASE BATH BEACH BEAN BEAR BELL BERRY BIKE BIRD BLUE
BOAT BONE BOOK BOOT BOWL BOX BRAVE BREAD BRICK BRIDGE BRUSH CABIN CAKE CALM CAMP CANDY CAPE CARD CASTLE CHAIR CHEESE CITY
CLAY CLEAN CLOCK CLOUD COAST COAT COFFEE COIN CORN CRAFT CREAM CROWN CUP DANCE DAWN DEER DESK DOOR DREAM DRIVE DRUM DUCK
DUST EAGLE EARTH EAST ECHO EDGE EGG FARM FERN FIELD FIRE FISH FLAG FLOUR FLUTE FOG FOREST FOX FROG FRUIT GAME GARDEN GATE
GIFT GLASS GOAT GOLD GRAPE GRASS GREEN GUIDE HAND HARBOR HAT HAWK HILL HONEY HOPE HORSE HOTEL HOUSE ICE INK IRON ISLAND IVY
JAM JAZZ JEWEL JOY JUICE JUMP KEY KIND KING KITE LAKE LAMP LEAF LEMON LIGHT LILY LION LOCK LUCK LUNCH MAGIC MAP MAPLE MARKET
MEADOW MELON MILK MINT MOON MOTH MUSIC NEST NEWS NIGHT NORTH NOTE OAK OCEAN OLIVE OPEN ORANGE OTTER OWL PAINT PALM PAPER
PARK PEACH PEAR PENCIL PHONE PIANO PINE PLANT PLUM POND POST QUEEN QUICK QUIET QUILT RADIO RAIN RICE RIVER ROAD ROBIN ROCK
ROOF ROSE SAIL SALT SAND SCHOOL SEED SHELL SHIP SHOP SILVER SKY SNOW SOAP SONG SOUP SOUTH SPOON SPRING STAR STEAM STONE
STORM SUGAR SUN SWAN TABLE TEA TENT TIGER TOWER TOY TRAIN TREE TULIP VALLEY VELVET VIOLIN WALK WATER WAVE WEST WHALE WHEAT
WIND WINTER WOLF WOOD YARD YELLOW ZEBRA ZOO
"""
WORDS = tuple(_WRITTEN.split())
NOVEL = frozenset(WORDS[3::6])
"""Every sixth word is never written in training: whoever can write it has learnt letters, not pictures of words."""
COUNTS = ("", "one word", "two words", "three words")
MOST_LINES = 3
_WIDEST = 0.88  # share of the picture that a line may take
_LETTER = 0.26  # height of the letters' box, in sides of the picture, where the words are short enough


@dataclass(frozen=True)
class Page:
    """What is written: lines from top to bottom, the letters' colour, and the colour behind them."""

    lines: tuple[str, ...]
    ink: str
    paper: str


def draw(page: Page, size: int = 64) -> np.ndarray:
    """The picture of a page, (size, size, 3) uint8: lines spread evenly, centred, in one size."""
    from PIL import Image, ImageDraw, ImageFont

    picture = Image.new("RGB", (size, size), PAPERS[page.paper])
    pen = ImageDraw.Draw(picture)
    letters = _LETTER * size
    font = ImageFont.load_default(letters)
    widest = max(pen.textlength(line, font=font) for line in page.lines)
    if widest > _WIDEST * size:
        font = ImageFont.load_default(letters * _WIDEST * size / widest)
    for n, line in enumerate(page.lines):
        pen.text((size / 2, size * (n + 0.5) / len(page.lines)), line, fill=INKS[page.ink], font=font, anchor="mm")
    return np.asarray(picture)


def captions(page: Page) -> tuple[str, ...]:
    """Wordings of a training page from bare to dense; every one quotes the text exactly."""
    text = " ".join(page.lines)
    return (
        f'"{text}"',
        f'a sign that says "{text}"',
        f'the text "{text}" in {page.ink} on {page.paper}',
        dense(page),
    )


def dense(page: Page) -> str:
    """The whole page in one paragraph, line by line."""
    count, spots = len(page.lines), (("centre",), ("top", "bottom"), ("top", "middle", "bottom"))
    parts = [f"A plain {page.paper} sign shows exactly {COUNTS[count]} in clear {page.ink} capital letters, centred."]
    parts += [f'At the {spot} it reads "{line}".' for spot, line in zip(spots[count - 1], page.lines, strict=True)]
    return " ".join(parts)


def training_page(index: int, seed: int = 0) -> Page:
    """Page `index` of an endless stream: one to three lines of words that are not `NOVEL`."""
    rng = np.random.default_rng([seed, 0, index])
    return _page(rng, int(rng.integers(1, MOST_LINES + 1)), "train")


def prompts(count: int, split: Split = "train", seed: int = 0) -> list[dict[str, Any]]:
    """`count` test prompts of every number of lines, as LongText-Bench writes its own.

    Args:
        split: "train": words that training has seen (in other company); "novel": words it has not.

    Returns:
        {"category": "one word" ..., "length": "short", "prompt", "text": lines, "text_length": words, "prompt_id"}.
    """
    found = []
    for lines in range(1, MOST_LINES + 1):
        rng = np.random.default_rng([seed, lines])
        for _ in range(count):
            page = _page(rng, lines, split)
            row = {"category": COUNTS[lines], "length": "short", "prompt": captions(page)[1], "text": list(page.lines)}
            found.append({**row, "text_length": lines, "prompt_id": len(found)})
    return found


def fitting(prompt: dict[str, Any], index: int = 0, seed: int = 0) -> Page:
    """A page that a prompt of `prompts` asks for, its colours chosen at random: a right picture to hold a reader against."""
    rng = np.random.default_rng([seed, 7, index])
    return Page(tuple(prompt["text"]), str(rng.choice(list(INKS))), str(rng.choice(list(PAPERS))))


def _page(rng: np.random.Generator, lines: int, split: Split) -> Page:
    pool = [word for word in WORDS if (word in NOVEL) == (split == "novel")]
    words = tuple(str(word) for word in rng.choice(pool, lines, replace=False))
    return Page(words, str(rng.choice(list(INKS))), str(rng.choice(list(PAPERS))))


@dataclass(frozen=True)
class Words:
    """Training pages with captions, any row by itself, as a source of records.

    Args:
        count: rows there are. size: pixels a side. seed: other pages.
    """

    count: int = 100_000
    size: int = 64
    seed: int = 0
    name: str = "words"

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, row: int) -> Record:
        if not 0 <= row < self.count:
            raise IndexError(f"words: row {row} is not in 0..{self.count - 1}")
        page = training_page(row, self.seed)
        return Record(f"words/{self.seed}/{row}", draw(page, self.size), captions(page), " ".join(page.lines))
