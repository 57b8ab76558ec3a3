"""The diffusion transformer: image and text streams with their own weights, joint attention, long skips.

Shape letters: B batch, N image tokens, L text tokens, W width, H heads, D channels of one head.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diptych.models.blocks import (
    RMSNorm,
    SwiGLU,
    TimeEmbedding,
    attention,
    init_weight,
    patchify,
    rope,
    rope_angles,
    sincos_2d,
    unpatchify,
)


@dataclass(frozen=True)
class DiTConfig:
    """Shape of a `DiT`; the defaults are the quickstart's (64 image tokens, 10.1 M parameters).

    Args:
        in_channels: channels of the latents.
        size: height and width of the latents, a multiple of `patch`.
        patch: side of the square of latents that makes one image token.
        width: channels of a token.
        depth: number of blocks; odd where `long_skip`.
        heads: attention heads; width / heads is a multiple of 8.
        hidden: inner width of the SwiGLU.
        text_width: channels of the text encoder's states.
        text_tokens: the longest text, in tokens.
        long_skip: join block i's output to the input of block depth - 1 - i.
        modulation: "shared": shift, scale and gate from time and pooled text, one Linear for all blocks plus a learned
            offset a block (adaLN-single, Chen et al. 2023); "none": the network sees neither and ignores t.
        qk_norm: RMSNorm over each head's queries and keys.

    Raises:
        ValueError: sizes that do not divide, an even depth with long skips, an unknown modulation.
    """

    in_channels: int = 16
    size: int = 8
    patch: int = 1
    width: int = 256
    depth: int = 7
    heads: int = 4
    hidden: int = 512
    text_width: int = 384
    text_tokens: int = 32
    long_skip: bool = True
    modulation: Literal["none", "shared"] = "shared"
    qk_norm: bool = True

    def __post_init__(self) -> None:
        if self.size % self.patch:
            raise ValueError(f"dit: size {self.size} is not a multiple of patch {self.patch}")
        if self.width % (8 * self.heads):
            raise ValueError(f"dit: width {self.width} over {self.heads} heads must be a multiple of 8 a head")
        if self.depth < 1 or (self.long_skip and self.depth % 2 == 0):
            raise ValueError(f"dit: depth {self.depth} with long_skip={self.long_skip}; long skips need an odd depth >= 1")
        if self.modulation not in ("none", "shared"):
            raise ValueError(f"dit: modulation {self.modulation!r} is not known; choose 'none' or 'shared'")


class DualBlock(nn.Module):
    """One dual-stream block: norms and modulation shared by the streams, projections and SwiGLU separate.

    Args:
        config: the network's shape.
        skip: the block starts by joining an earlier block's outputs, [current, skip] -> Linear, in each stream.
        last: nothing reads the text after this block, so its text stream gives keys and values and ends there.
    """

    def __init__(self, config: DiTConfig, skip: bool, last: bool) -> None:
        super().__init__()
        width = config.width
        self.heads = config.heads
        self.skip_image = nn.Linear(2 * width, width) if skip else None
        self.skip_text = nn.Linear(2 * width, width) if skip else None
        self.norm1 = RMSNorm(width)
        self.qkv_image = nn.Linear(width, 3 * width)
        self.qkv_text = nn.Linear(width, (2 if last else 3) * width)
        self.q_norm = RMSNorm(width // config.heads) if config.qk_norm else nn.Identity()
        self.k_norm = RMSNorm(width // config.heads) if config.qk_norm else nn.Identity()
        self.proj_image = nn.Linear(width, width)
        self.proj_text = None if last else nn.Linear(width, width)
        self.norm2 = RMSNorm(width)
        self.mlp_image = SwiGLU(width, config.hidden)
        self.mlp_text = None if last else SwiGLU(width, config.hidden)
        self.offset = nn.Parameter(torch.zeros(6, width)) if config.modulation == "shared" else None

    def attend(self, image_BNW: Tensor, text_BLW: Tensor, turn: Tensor, keep: Tensor | None) -> Tensor:
        """Joint attention over [image; text]; the rows of the text are left out in the last block."""
        image = self.qkv_image(image_BNW).unflatten(-1, (3, self.heads, -1)).unbind(2)
        text = self.qkv_text(text_BLW).unflatten(-1, (-1, self.heads, image[0].shape[-1])).unbind(2)
        q_BLHD = image[0] if len(text) == 2 else torch.cat([image[0], text[0]], dim=1)
        k_BLHD, v_BLHD = (torch.cat([image[i], text[i - 3]], dim=1) for i in (1, 2))
        q_BLHD = rope(self.q_norm(q_BLHD), turn[: q_BLHD.shape[1]])
        k_BLHD = rope(self.k_norm(k_BLHD), turn)
        return attention(q_BLHD, k_BLHD, v_BLHD, keep)

    def forward(
        self,
        image_BNW: Tensor,
        text_BLW: Tensor,
        modulation_B6W: Tensor | None,
        turn: Tensor,
        keep: Tensor | None,
        skip: tuple[Tensor, Tensor] | None,
    ) -> tuple[Tensor, Tensor]:
        if skip is not None and self.skip_image is not None and self.skip_text is not None:
            image_BNW = self.skip_image(torch.cat([image_BNW, skip[0]], dim=-1))
            text_BLW = self.skip_text(torch.cat([text_BLW, skip[1]], dim=-1))
        if modulation_B6W is None or self.offset is None:
            change = (None,) * 6
        else:
            change = (modulation_B6W + self.offset).unsqueeze(2).unbind(1)
        shift1, scale1, gate1, shift2, scale2, gate2 = change
        n = image_BNW.shape[1]
        joint = self.attend(
            modulate(self.norm1(image_BNW), shift1, scale1), modulate(self.norm1(text_BLW), shift1, scale1), turn, keep
        )
        image_BNW = add(image_BNW, self.proj_image(joint[:, :n]), gate1)
        image_BNW = add(image_BNW, self.mlp_image(modulate(self.norm2(image_BNW), shift2, scale2)), gate2)
        if self.proj_text is not None and self.mlp_text is not None:
            text_BLW = add(text_BLW, self.proj_text(joint[:, n:]), gate1)
            text_BLW = add(text_BLW, self.mlp_text(modulate(self.norm2(text_BLW), shift2, scale2)), gate2)
        return image_BNW, text_BLW


def modulate(x: Tensor, shift: Tensor | None, scale: Tensor | None) -> Tensor:
    """x * (1 + scale) + shift; x itself where there is no modulation."""
    return x if shift is None or scale is None else torch.addcmul(x + shift, x, scale)


def add(x: Tensor, update: Tensor, gate: Tensor | None) -> Tensor:
    """x + gate * update; x + update where there is no modulation."""
    return x + update if gate is None else torch.addcmul(x, gate, update)


class DiT(nn.Module):
    """Text-conditional diffusion transformer that predicts the flow dx/dt of latents.

    MMDiT streams (Esser et al. 2024, section 4) with the long skips of U-ViT (Bao et al. 2022), as in i1 (arXiv 2606.11289).
    Positions: a fixed 2-D sine-cosine table on the image tokens, and rotary angles on (text, row, column): image tokens
    sit at (0, row, column), text token i at (i + 1, 0, 0).

    Args:
        config: the shape.
        generator: draws the initial weights; None takes one seeded with 0.
    """

    predicts = "flow"
    positions: Tensor
    turn: Tensor

    def __init__(self, config: DiTConfig, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.config = config
        width, side = config.width, config.size // config.patch
        inner = config.in_channels * config.patch**2
        self.embed = nn.Linear(inner, width)
        self.text_norm = RMSNorm(config.text_width)
        self.text_in = nn.Linear(config.text_width, width)
        self.text_out = nn.Linear(width, width)
        self.null_text = nn.Parameter(torch.zeros(config.text_width))
        shared = config.modulation == "shared"
        self.time = TimeEmbedding(width) if shared else None
        self.modulation = nn.Linear(width, 6 * width) if shared else None
        skips = config.depth // 2 if config.long_skip else 0
        self.blocks = nn.ModuleList(
            DualBlock(config, skip=i >= config.depth - skips, last=i == config.depth - 1) for i in range(config.depth)
        )
        self.final_offset = nn.Parameter(torch.zeros(2, width)) if shared else None
        self.final_norm = RMSNorm(width)
        self.final = nn.Linear(width, inner)
        self.register_buffer("positions", sincos_2d(side, side, width), persistent=False)
        self.register_buffer("turn", self._turn(side), persistent=False)
        self._init(torch.Generator().manual_seed(0) if generator is None else generator)

    def _turn(self, side: int) -> Tensor:
        """Cosine and sine (image tokens, then text tokens; D/2; 2) of the rotary angles."""
        band = self.config.width // self.config.heads // 4
        row, column = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
        image = torch.stack([torch.zeros(side * side), row.flatten(), column.flatten()], dim=1)
        text = torch.zeros(self.config.text_tokens, 3)
        text[:, 0] = torch.arange(1, self.config.text_tokens + 1)
        angles = rope_angles(torch.cat([image, text]), (2 * band, band, band))
        return torch.stack([angles.cos(), angles.sin()], dim=-1).float()

    def _init(self, generator: torch.Generator) -> None:
        """Gates start at 1, shift and scale at 0, the last Linear at 0; what is added to a stream starts small."""
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear):
                ends = name.endswith(("proj_image", "proj_text", "w3"))
                init_weight(module, generator, 1 / math.sqrt(2 * self.config.depth) if ends else 1.0)
        nn.init.normal_(self.null_text, std=1.0, generator=generator)
        nn.init.zeros_(self.final.weight)
        if self.modulation is not None:
            nn.init.zeros_(self.modulation.weight)
            for block in self.modules():
                if isinstance(block, DualBlock) and block.offset is not None:
                    block.offset.data[[2, 5]] = 1.0

    def read(self, cond: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Text states (B, L, W) after the adapter and their mask (B, L), the null text put where `null` says.

        The null text is one token whatever the prompt's length, so nothing of the prompt is left in its row.
        """
        states, mask = cond["text"], cond["text_mask"]
        longest = self.config.text_tokens
        if states.shape[-1] != self.config.text_width or not 1 <= states.shape[1] <= longest:
            raise ValueError(
                f"dit: text states of shape {tuple(states.shape)}; expected (batch, 1 to {longest} tokens, "
                f"{self.config.text_width} channels)"
            )
        if "null" in cond:
            null = cond["null"]
            first = torch.arange(mask.shape[1], device=mask.device) == 0
            states = torch.where(null[:, None, None], self.null_text.to(states.dtype), states)
            mask = torch.where(null[:, None], first, mask)
        if mask.device.type == "cpu":  # drop columns that no row uses; on an accelerator looking would wait for it
            used = int(mask.any(0).nonzero().amax()) + 1 if bool(mask.any()) else 1
            states, mask = states[:, :used], mask[:, :used]
        return self.text_out(F.gelu(self.text_in(self.text_norm(states)))), mask

    def forward(self, x: Tensor, t: Tensor, cond: Mapping[str, Tensor]) -> Tensor:
        """Predict the flow.

        Args:
            x: noisy latents, (B, C, H, W).
            t: times, (B,), 0 = data, 1 = prior.
            cond: "text" (B, L, text_width) float, "text_mask" (B, L) bool, True where a token is real; optionally
                "null" (B,) bool, True where the row's text is replaced by the learned null text.

        Returns:
            dx/dt, (B, C, H, W).

        Raises:
            ValueError: latents or text states of another shape than the config's.
        """
        config, side = self.config, self.config.size // self.config.patch
        if x.shape[1:] != (config.in_channels, config.size, config.size):
            raise ValueError(
                f"dit: latents of shape {tuple(x.shape)}; expected (batch, {config.in_channels}, {config.size}, {config.size})"
            )
        text_BLW, mask = self.read(cond)
        image_BNW = self.embed(patchify(x, config.patch)) + self.positions
        everything = mask.device.type == "cpu" and bool(mask.all())
        keep = None if everything else F.pad(mask, (side * side, 0), value=True)
        modulation = None
        if self.modulation is not None and self.time is not None:
            weight = mask.to(text_BLW.dtype)[:, :, None]
            pooled = (text_BLW * weight).sum(1) / weight.sum(1).clamp(min=1.0)
            modulation = self.modulation(F.silu(self.time(t) + pooled)).unflatten(-1, (6, config.width))
        turn = self.turn[: side * side + mask.shape[1]]
        stack: list[tuple[Tensor, Tensor]] = []
        for i, block in enumerate(self.blocks):
            skip = stack.pop() if config.long_skip and i > config.depth // 2 else None
            image_BNW, text_BLW = block(image_BNW, text_BLW, modulation, turn, keep, skip)
            if config.long_skip and i < config.depth // 2:
                stack.append((image_BNW, text_BLW))
        image_BNW = self.final_norm(image_BNW)
        if modulation is not None and self.final_offset is not None:
            shift, scale = (modulation[:, :2] + self.final_offset).unsqueeze(2).unbind(1)
            image_BNW = modulate(image_BNW, shift, scale)
        return unpatchify(self.final(image_BNW), config.patch, side, side)
