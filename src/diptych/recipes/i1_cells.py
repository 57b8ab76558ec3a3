"""The controlled experiments of i1 (arXiv 2606.11289): which networks each compares, at the paper's size and at a small one.

Every experiment is one function from a base cell to its arms, each arm the base with one thing changed. Called with the paper's
base it says what the published run trained; called with a small base it says what is trained here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import compress
from typing import Literal

from diptych.models.i1_config import BASELINE, WIDTHS, I1Config, sized
from diptych.schedule import Density, LogitNormal, UniformTimes

Weights = Literal["equal", "proportional", "capped"]
Kinds = Literal["real", "synthetic", "text"]


@dataclass(frozen=True)
class Sets:
    """What a cell is trained on.

    Args:
        sizes: pictures of each set, by name.
        kinds: "real", "synthetic" or "text", in the order of `sizes`.
        weights: of the mixture; numbers, one a set, weigh them by hand.
        cap: pictures beyond which a set counts no more, with "capped".
        short: share of short captions where a picture has both kinds; None = uniformly one of its captions.
        short_words: up to this many words a caption is short.
        unique: use only so many pictures of each set; 0 = all.
        wordings: captions of a picture that are used: 0 = all, 1 = one, chosen for each picture once.
        mistaken: share of pictures whose captions are those of another picture: a captioner that errs.
    """

    sizes: tuple[tuple[str, int], ...]
    kinds: tuple[Kinds, ...]
    weights: Weights | tuple[float, ...] = "proportional"
    cap: int = 0
    short: float | None = None
    short_words: int = 25
    unique: int = 0
    wordings: int = 0
    mistaken: float = 0.0

    def __post_init__(self) -> None:
        if isinstance(self.weights, str):
            return
        object.__setattr__(self, "weights", tuple(self.weights))
        if len(self.weights) != len(self.sizes):
            raise ValueError(f"sets.weights: {len(self.weights)} numbers for {len(self.sizes)} sets; give one a set")

    def without(self, *kinds: Kinds) -> Sets:
        """Without the sets of some kinds."""
        return self._kept([kind not in kinds for kind in self.kinds])

    def leaving(self, *names: str) -> Sets:
        """Without some sets."""
        return self._kept([name not in names for name, _ in self.sizes])

    def _kept(self, which: Sequence[bool]) -> Sets:
        weights = self.weights if isinstance(self.weights, str) else tuple(compress(self.weights, which))
        return replace(
            self, sizes=tuple(compress(self.sizes, which)), kinds=tuple(compress(self.kinds, which)), weights=weights
        )


@dataclass(frozen=True)
class Cell:
    """One network to be trained, but for its seed.

    Args:
        model: its shape.
        sets: what it sees.
        images: pictures it sees.
        batch: pictures a step.
        lr: learning rate.
        pixels: side of its pictures.
        encoder: what makes states of captions; see `i1_data.ENCODERS`, or the paper's name of one.
        latents: what makes latents of pictures; see `i1_data.LATENTS`, or the paper's name of one.
        tokens: of an average caption, for reckoning costs.
        density: of training times.
        target: what the network predicts.
        after: the cell whose weights, average and optimiser it goes on from; None = it starts anew.
    """

    model: I1Config
    sets: Sets
    images: int
    batch: int
    lr: float
    pixels: int
    encoder: str
    latents: str
    tokens: int
    density: Density = LogitNormal()
    target: Literal["flow", "x0"] = "flow"
    after: Cell | None = None

    @property
    def side(self) -> int:
        """Side of the latents."""
        return self.pixels // 8

    @property
    def image_tokens(self) -> int:
        return (self.side // self.model.patch) ** 2

    @property
    def text_tokens(self) -> int:
        """Of a caption as the network sees it: padded where the adapter reads padding."""
        return self.model.text_tokens if self.model.compat or self.model.null == "prompt" else self.tokens


_PAPER_KINDS: tuple[Kinds, ...] = (*["real"] * 7, *["synthetic"] * 3, *["text"] * 2)  # pyright: ignore[reportAssignmentType]

PAPER_SETS = Sets(
    (
        ("yfcc100m", 98_121_424),
        ("imagenet22k", 13_673_551),
        ("megalith10m", 9_393_971),
        ("places365", 8_026_628),
        ("redcaps", 4_817_431),
        ("pexels", 2_810_634),
        ("inaturalist", 4_813_543),
        ("flux_reason", 5_890_279),
        ("gpt_edit", 1_553_575),
        ("midjourney_v6", 1_240_185),
        ("textatlas5m", 5_397_762),
        ("renderedtext", 11_977_824),
    ),
    _PAPER_KINDS,
)
"""Section "data" of i1's repository; the baselines draw in proportion to size."""

PAPER = Cell(
    replace(BASELINE, backbone="cross"),
    PAPER_SETS,
    images=500_000 * 512,
    batch=512,
    lr=1e-4,
    pixels=256,
    encoder="t5gemma-2b",
    latents="flux.2",
    tokens=150,
)
"""The published controlled runs: cross-attention at the XL width, MLP adapter, 500,000 steps of 512 pictures."""


@dataclass(frozen=True)
class Ablation:
    """A controlled experiment.

    Args:
        question: what it settles.
        finding: number of the paper's finding, or "" where the paper gives no numbers.
        arms: the cells of a base, the baseline first.
        widths: at the paper's size, the widths it is run at; empty = the base's only.
        label: an arm in a reader's words, of its name.
    """

    question: str
    finding: str
    arms: Callable[[Cell], Mapping[str, Cell]]
    widths: tuple[int, ...] = ()
    label: str = "{}"


def _model(base: Cell, **changes: object) -> Cell:
    return replace(base, model=replace(base.model, **changes))


def _sets(base: Cell, **changes: object) -> Cell:
    return replace(base, sets=replace(base.sets, **changes))


def long_skip(base: Cell) -> dict[str, Cell]:
    """Two streams with and without U-ViT's skips."""
    dual = _model(base, backbone="dual")
    return {"with": dual, "without": _model(dual, long_skip=False)}


def adapter(base: Cell) -> dict[str, Cell]:
    """An MLP between text encoder and network, or one to three transformer blocks."""
    blocks = {f"{n}-block": _model(base, adapter_blocks=n) for n in (1, 2, 3)}
    return {"mlp": base, **blocks}


def adaln(base: Cell) -> dict[str, Cell]:
    """Modulation by time and pooled text, by one of them, by nothing."""
    return {"both": base, "time": _model(base, modulation="time"), "text": _model(base, modulation="text")} | {
        "none": _model(base, modulation="none")
    }


def backbone(base: Cell) -> dict[str, Cell]:
    """The three families."""
    return {name: _model(base, backbone=name) for name in ("cross", "single", "dual")}


def mixing(base: Cell) -> dict[str, Cell]:
    """How sets are weighed against each other, and what each kind of picture brings."""
    sizes = sorted(size for _, size in base.sets.sizes)
    middle = sizes[len(sizes) // 2]
    return {
        "proportional": base,
        "capped": _sets(base, weights="capped", cap=middle),
        "equal": _sets(base, weights="equal"),
        "no-real": replace(base, sets=base.sets.without("real")),
        "no-synthetic": replace(base, sets=base.sets.without("synthetic")),
        "no-text": replace(base, sets=base.sets.without("text")),
    }


def caption_length(base: Cell) -> dict[str, Cell]:
    """Long captions for none to all of the pictures, on one set."""
    one = _one_set(base)
    return {f"{long}%": _sets(one, short=1 - long / 100) for long in (100, 80, 60, 40, 20, 0)}


def captioner(base: Cell) -> dict[str, Cell]:
    """Captioners that err for more and more pictures, on one set; at the paper's size they are five VLMs."""
    one = _one_set(base)
    return {"right": one} | {f"{share}%-wrong": _sets(one, mistaken=share / 100) for share in (5, 15, 30)}


def repetition(base: Cell) -> dict[str, Cell]:
    """Fewer and fewer different pictures, seen more often, with all their captions or with one."""
    most = max(size for _, size in base.sets.sizes)
    found = {"all": base}
    for part in (16, 64, 256):
        few = _sets(base, unique=max(most // part, 1))
        found |= {f"1/{part}": few, f"1/{part}, one caption": _sets(few, wordings=1)}
    return found


def resolution(base: Cell) -> dict[str, Cell]:
    """A second stage at twice the resolution: on everything, or on one kind of picture."""
    low = base.pixels if base.pixels >= 256 else base.pixels // 2  # the paper's base is its first stage
    first = replace(base, pixels=low, sets=replace(base.sets, weights="equal"))
    second = replace(first, pixels=2 * low, images=base.images // 4, after=first)
    parts: dict[str, tuple[Kinds, ...]] = {
        "real-only": ("synthetic", "text"),
        "synthetic-only": ("real", "text"),
        "text-only": ("real", "synthetic"),
    }
    return {"all": second} | {name: replace(second, sets=second.sets.without(*out)) for name, out in parts.items()}


def text_encoder(base: Cell) -> dict[str, Cell]:
    """What reads the captions: at the paper's size ten encoders, here three depths of one."""
    if base.encoder in PAPER_ENCODERS:
        return {name: replace(_model(base, text_width=width), encoder=name) for name, width in PAPER_ENCODERS.items()}
    return {name: replace(base, encoder=name) for name in ("minilm", "minilm-words", "minilm-sentence")}


def vae(base: Cell) -> dict[str, Cell]:
    """What makes latents: at the paper's size three autoencoders, here two and plain pixels."""
    known = PAPER_LATENTS if base.latents in PAPER_LATENTS else {"mixed": 16, "quickstart": 16, "pixels": 192}
    return {name: replace(_model(base, channels=channels), latents=name) for name, channels in known.items()}


def time_density(base: Cell) -> dict[str, Cell]:
    """Where training times lie."""
    return {
        "logit-normal": replace(base, density=LogitNormal()),
        "uniform": replace(base, density=UniformTimes()),
        "towards noise": replace(base, density=LogitNormal(1.5, 1.0)),
    }


def target(base: Cell) -> dict[str, Cell]:
    """Predict the flow, or clean data with the flow's loss."""
    return {"flow": base, "x0": replace(base, target="x0")}


def norms(base: Cell) -> dict[str, Cell]:
    """Norms after each branch too, norms for each stream, none on queries and keys; two streams."""
    dual = _model(base, backbone="dual")
    return {
        "plain": dual,
        "sandwich": _model(dual, sandwich=True),
        "separate": _model(dual, norms="separate"),
        "no-qk-norm": _model(dual, qk_norm=False),
    }


PAPER_ENCODERS = {
    "t5gemma-2b": 2304, "t5gemma-2b-base": 2304, "t5gemma-9b": 3584, "t5gemma2-1b": 1152, "t5gemma2-4b": 2560,
    "qwen3-vl-2b": 2048, "qwen3-vl-4b": 2560, "qwen3-1.7b": 2048, "qwen3-4b-2507": 2560, "fg-clip-2": 1152,
}  # fmt: skip
PAPER_LATENTS = {"flux.2": 32, "flux.1": 16, "qwen-image": 16}

ABLATIONS = {
    "long_skip": Ablation("Do long skips help?", "F4", long_skip, (1152, 1296, 1440, 1584, 1728), label="{} long skips"),
    "adapter": Ablation("Is a transformer between text encoder and network worth it?", "F2", adapter, label="adapter: {}"),
    "adaln": Ablation("Is modulation by time and text needed?", "F3", adaln, label="modulation: {}"),
    "mixing": Ablation("How should sets be mixed?", "F8", mixing, label="sets: {}"),
    "backbone": Ablation("Which backbone?", "F5", backbone, (1152, 1296, 1440, 1584, 1728)),
    "caption_length": Ablation("How many captions should be long?", "F7", caption_length, label="{} long captions"),
    "captioner": Ablation("How much do errors of the captioner cost?", "F6", captioner, label="captions: {}"),
    "repetition": Ablation("How few different pictures are enough?", "F9", repetition, label="pictures: {}"),
    "resolution": Ablation("What should the stage at a higher resolution see?", "F10", resolution, label="second stage: {}"),
    "text_encoder": Ablation("Which text encoder?", "F1", text_encoder),
    "vae": Ablation("Which latents?", "", vae, label="latents: {}"),
    "time_density": Ablation("Where should training times lie?", "", time_density, label="times: {}"),
    "target": Ablation("Flow or clean data?", "", target, label="predicts {}"),
    "norms": Ablation("Which norms?", "", norms, label="norms: {}"),
}
"""In the order in which they are worth their time."""


def cells(name: str, base: Cell, every_width: bool = False) -> dict[str, Cell]:
    """The arms of an ablation, the baseline first; with `every_width` those of each of the paper's widths."""
    ablation = ABLATIONS[name]
    if not every_width or not ablation.widths:
        return dict(ablation.arms(base))
    wide = {width: replace(base, model=sized(base.model, width)) for width in ablation.widths if width in WIDTHS}
    return {f"{arm}, {width}": cell for width, one in wide.items() for arm, cell in ablation.arms(one).items()}


def _one_set(base: Cell) -> Cell:
    """On the set that has long and short captions: ImageNet-22K there, shapes here."""
    named = {"imagenet22k", "shapes"}
    return replace(base, sets=base.sets.leaving(*(name for name, _ in base.sets.sizes if name not in named)))
