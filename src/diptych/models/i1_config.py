"""The shape of an `I1` text-to-image transformer, and the shapes that have names (i1, arXiv 2606.11289)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal


@dataclass(frozen=True)
class I1Config:
    """One config for every backbone and every ablation; the defaults are i1's recipe at the 1B's width, for new training.

    The published weights were trained with an adapter that reads padding and a null text that keeps the prompt's mask; their
    presets say so (`adapter_mask=False, null="prompt"`), and then prompts must be padded to exactly `text_tokens`.

    Args:
        backbone: "dual": image and text tokens with their own weights in joint attention (Esser et al. 2024); "single": the
            same weights for both, after refiners of each (Lumina-Image 2); "cross": image tokens that read the text by
            cross-attention (LightningDiT).
        channels: of the latents.
        patch: side of the square of latents that makes one image token.
        width: channels of a token.
        depth: number of blocks; odd where `long_skip`. Refiners and adapter blocks are not counted.
        heads: attention heads; width / heads is a multiple of 8.
        hidden: inner width of the SwiGLU.
        text_width: channels of the text encoder's states.
        text_tokens: tokens of the learned null text where `null` is "prompt"; no limit on prompts but where it says so above.
        adapter_blocks: transformer blocks between the text encoder and the network; 0 = Linear, GELU, Linear.
        adapter_mask: whether the adapter's attention leaves padding out.
        null: "token": the null text is one learned token, whatever the prompt's length; "prompt": `text_tokens` learned tokens
            under the prompt's own mask, so that its length shows.
        long_skip: join block i's output to the input of block depth - 1 - i (Bao et al. 2022).
        modulation: what drives shift, scale and gate of each block (adaLN, not zero-initialised); "none": t is not read.
        sandwich: RMSNorm also after attention and after the SwiGLU, before each is added.
        norms: "shared": image and text tokens have the same norm weights; "separate": their own.
        qk_norm: RMSNorm over each head's queries and keys.
        positions: a fixed sine-cosine table on the image tokens, rotary angles, or both.
        base: side of the grid of image tokens at which positions count by one; on others they are scaled by
            base / sqrt(rows x columns), so that all pictures span the same range.
        theta: base of the frequencies of the rotary angles.
        refiners: blocks for each kind of token before the first of a "single" backbone.
        keep_unread: hold the weights that published files have and nothing reads (a timestep MLP without modulation, what the
            last block makes of the text); they are never trained.

    Raises:
        ValueError: a choice that is not known, or sizes that do not divide.
    """

    backbone: Literal["dual", "single", "cross"] = "dual"
    channels: int = 32
    patch: int = 2
    width: int = 1152
    depth: int = 29
    heads: int = 16
    hidden: int = 3072
    text_width: int = 2304
    text_tokens: int = 256
    adapter_blocks: int = 2
    adapter_mask: bool = True
    null: Literal["token", "prompt"] = "token"
    long_skip: bool = True
    modulation: Literal["none", "time", "text", "both"] = "none"
    sandwich: bool = True
    norms: Literal["shared", "separate"] = "shared"
    qk_norm: bool = True
    positions: Literal["both", "rope", "sincos"] = "both"
    base: int = 16
    theta: float = 10000.0
    refiners: int = 2
    keep_unread: bool = False

    def __post_init__(self) -> None:
        known = {
            "backbone": ("dual", "single", "cross"),
            "null": ("token", "prompt"),
            "modulation": ("none", "time", "text", "both"),
            "norms": ("shared", "separate"),
            "positions": ("both", "rope", "sincos"),
        }
        for name, choices in known.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"i1: {name} {getattr(self, name)!r} is not known; choose from {', '.join(choices)}")
        for name in ("channels", "patch", "width", "depth", "heads", "hidden", "text_width", "text_tokens", "base"):
            if getattr(self, name) < 1:
                raise ValueError(f"i1: {name} {getattr(self, name)} is not positive")
        for name in ("adapter_blocks", "refiners"):
            if getattr(self, name) < 0:
                raise ValueError(f"i1: {name} {getattr(self, name)} is negative")
        if self.width % (8 * self.heads):
            raise ValueError(f"i1: width {self.width} over {self.heads} heads must be a multiple of 8 a head")
        if self.long_skip and self.depth % 2 == 0:
            raise ValueError(f"i1: depth {self.depth} is even; long skips need an odd depth")

    @property
    def streams(self) -> tuple[str, ...]:
        """The kinds of token that have weights of their own."""
        return {"dual": ("image", "text"), "single": ("tokens",), "cross": ("image",)}[self.backbone]

    @property
    def compat(self) -> bool:
        """Whether padding changes what real tokens become, so that prompts must have exactly `text_tokens` tokens."""
        return self.adapter_blocks > 0 and not self.adapter_mask


WIDTHS = {1152: 16, 1296: 18, 1440: 20, 1584: 22, 1728: 24, 1872: 26, 2016: 28}
"""The paper's seven widths and their heads; a head has 72 channels."""


def sized(config: I1Config, width: int) -> I1Config:
    """A config at another of the paper's widths, its SwiGLU's inner width 8/3 of it as published.

    Raises:
        ValueError: another width.
    """
    if width not in WIDTHS:
        raise ValueError(f"i1: width {width} is none of the paper's; choose from {', '.join(map(str, WIDTHS))}")
    return replace(config, width=width, heads=WIDTHS[width], hidden=8 * width // 3)


PUBLISHED = I1Config(adapter_mask=False, null="prompt", keep_unread=True)
"""The recipe of the published weights, at the 1B's width."""

BASELINE = replace(PUBLISHED, adapter_blocks=0, modulation="both", sandwich=False, keep_unread=True)
"""What the paper's controlled experiments start from: MLP adapter, modulation by time and text, no sandwich norms."""

PRESETS: dict[str, I1Config] = {
    **{f"i1-{width}": sized(PUBLISHED, width) for width in WIDTHS},
    "i1-1B": PUBLISHED,
    "i1-3B": sized(PUBLISHED, 2016),
    "dual": BASELINE,
    "single": replace(BASELINE, backbone="single"),
    "cross": replace(BASELINE, backbone="cross"),
    # The shipped model: latents 16 x 8 x 8, MiniLM's states; widths fill the super-blocks of 256 of k-quants. Adapter
    # and skips are as the ablations found them to learn fastest, modulation no worse than any (docs/i1_findings.md).
    "small": I1Config(
        channels=16, patch=1, width=256, depth=7, heads=4, hidden=512, text_width=384, text_tokens=128, base=8,
        adapter_blocks=0, long_skip=False, modulation="time", sandwich=False,
    ),
}  # fmt: skip
"""Shapes by name: the published ones (i1-1B, i1-3B and all seven widths), the three baselines, the shipped small one."""
