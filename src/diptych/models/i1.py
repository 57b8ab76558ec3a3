"""The i1 text-to-image transformer (arXiv 2606.11289): one definition for its three backbones and every ablation.

Shape letters: B batch, C channels, H height, N image tokens, L text tokens, W width.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from diptych.models.adapter import Adapter
from diptych.models.blocks import init_weight, patchify, unpatchify
from diptych.models.dit import modulate
from diptych.models.i1_blocks import Block, Clock
from diptych.models.i1_config import I1Config
from diptych.models.i1_positions import image_turn, joint_turn, table
from diptych.models.rms_norm import LeanRMSNorm


class I1(nn.Module):
    """Predicts the flow dx/dt of latents of any size from token states of a text of any length.

    What depends on the text alone (adapter, rotary angles) is made by `prepare`, once for all steps of a sampler.
    Built under `torch.device("meta")` it has no values; after `to_empty`, `init` draws them.

    Args:
        config: the shape.
        generator: draws the initial weights; None takes one seeded with 0.

    Attributes:
        recompute: keep only the blocks' inputs for the backward pass and run each block again (gradient checkpointing).
        trim: text columns are cut to the longest prompt of a batch, rounded up to a multiple of this; 0 = not on accelerators,
            where looking waits for the device, and to the token elsewhere.
    """

    predicts = "flow"

    def __init__(self, config: I1Config, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.config = config
        self.recompute, self.trim = False, 0
        width, inner, depth = config.width, config.channels * config.patch**2, config.depth
        modulated, alone = config.modulation != "none", config.backbone == "single"
        reads_time = config.modulation in ("time", "both")

        def block(streams: Sequence[str], modulated: bool, skip: bool = False, last: bool = False) -> Block:
            return Block(
                streams,
                width,
                config.heads,
                config.hidden,
                sandwich=config.sandwich,
                qk_norm=config.qk_norm,
                shared=config.norms == "shared" or len(streams) == 1,
                skip=skip,
                modulated=modulated,
                cross=config.backbone == "cross",
                ends=last and config.backbone != "cross",
                keep_unread=config.keep_unread,
            )

        self.embed = nn.Linear(inner, width)
        self.time = Clock(width) if reads_time or config.keep_unread else None
        self.adapter = Adapter(config)
        self.refine_text = nn.ModuleList(block(("tokens",), False) for _ in range(config.refiners * alone))
        self.refine_image = nn.ModuleList(block(("tokens",), modulated) for _ in range(config.refiners * alone))
        first_out = depth - depth // 2 if config.long_skip else depth
        self.blocks = nn.ModuleList(block(config.streams, modulated, i >= first_out, i == depth - 1) for i in range(depth))
        self.final_norm = LeanRMSNorm(width)
        self.final_modulation = nn.Linear(width, 2 * width) if modulated else None
        self.final = nn.Linear(width, inner)
        for name, parameter in self.named_parameters():
            if _unread(name, config):
                parameter.requires_grad_(False)
        if self.final.weight.device.type != "meta":
            self.init(torch.Generator().manual_seed(0) if generator is None else generator)

    @torch.no_grad()
    def init(self, generator: torch.Generator) -> None:
        """Draw the weights as i1 does: what Flax does by default, Xavier-uniform where streams enter or are joined, no zeros.

        Args:
            generator: on the CPU, so that a network starts alike on every device.
        """
        for name, module in self.named_modules():
            if isinstance(module, LeanRMSNorm):
                nn.init.ones_(module.weight)
            elif isinstance(module, nn.Linear):
                drawn = nn.Linear(module.in_features, module.out_features, device="meta").to_empty(device="cpu")
                if name == "adapter.inlet" or name.endswith(".skip"):
                    nn.init.xavier_uniform_(drawn.weight, generator=generator)
                else:
                    init_weight(drawn, generator)
                module.weight.copy_(drawn.weight)
                nn.init.zeros_(module.bias)
        std = 1 / math.sqrt(self.config.text_width)
        self.adapter.null.copy_(torch.randn(self.adapter.null.shape, generator=generator) * std)

    def prepare(self, cond: Mapping[str, Tensor], size: tuple[int, int], trim: int = 0) -> dict[str, Tensor]:
        """What the steps of a sampler share: the adapter's output with its mask, and the rotary angles.

        Columns that no row uses are dropped; that is exact, as no token looks at padding.

        Args:
            cond: "text" (B, L, text_width) float, "text_mask" (B, L) bool, True where a token is real; optionally "null" (B,)
                bool, True where the row's text is replaced by the learned null text.
            size: height and width of the latents.
            trim: instead of the network's own, see there; 0 = that one.

        Returns:
            "adapted" (B, L', W), "adapted_mask" (B, L'), and, with rotary positions, "turn" (B, S, D/2, 2): conditions for
            `forward`, row-aligned.

        Raises:
            ValueError: text states of another width, or of another length where padding counts (`config.compat`).
        """
        config, trim = self.config, trim or self.trim
        rows, columns = self._grid(size)
        states, mask = cond["text"], cond["text_mask"]
        if states.ndim != 3 or states.shape[-1] != config.text_width or states.shape[:2] != mask.shape:
            raise ValueError(
                f"i1: text states {tuple(states.shape)} with mask {tuple(mask.shape)}; expected (batch, tokens, "
                f"{config.text_width}) with (batch, tokens)"
            )
        if config.compat and states.shape[1] != config.text_tokens:
            raise ValueError(
                f"i1: texts of {states.shape[1]} tokens; this network's adapter reads padding, so it takes exactly "
                f"{config.text_tokens}: pad or cut to that"
            )
        states, mask = self.adapter.filled(states.to(self.adapter.null.dtype), mask, cond.get("null"))
        if config.backbone == "cross" and mask.device.type == "cpu" and not bool(mask.any(1).all()):
            raise ValueError("i1: a row has no text token for its picture to read; give it the null text")
        if config.compat:
            states = self.adapter(states, mask)
            used = _used(mask, trim)
            states, mask = states[:, :used], mask[:, :used]
        else:
            used = _used(mask, trim)
            mask = mask[:, :used]
            states = self.adapter(states[:, :used], mask)
        turn = self._turn(mask, rows, columns) if config.positions != "sincos" else None
        for block in self.refine_text:
            (states,) = block([states], None if turn is None else turn[:, rows * columns :], mask)
        ready = {"adapted": states, "adapted_mask": mask}
        return ready if turn is None else {**ready, "turn": turn}

    def _turn(self, mask_BL: Tensor, rows: int, columns: int) -> Tensor:
        config, head = self.config, self.config.width // self.config.heads
        if config.backbone == "cross":
            turn = image_turn(rows, columns, head, config.base, config.theta, str(mask_BL.device))
            return turn.expand(len(mask_BL), -1, -1, -1)
        return joint_turn(mask_BL, rows, columns, head, config.base, config.theta)

    def _grid(self, size: tuple[int, int]) -> tuple[int, int]:
        patch = self.config.patch
        if size[0] % patch or size[1] % patch or min(size) < 1:
            raise ValueError(f"i1: latents of {size[0]} x {size[1]}; both must be multiples of the patch, {patch}")
        return size[0] // patch, size[1] // patch

    def forward(self, x: Tensor, t: Tensor, cond: Mapping[str, Tensor]) -> Tensor:
        """Predict the flow.

        Args:
            x: noisy latents, (B, C, H, W).
            t: times, (B,), 0 = data, 1 = prior; not read without modulation.
            cond: what `prepare` returns, or what it takes.

        Returns:
            dx/dt, (B, C, H, W), in x's dtype.

        Raises:
            ValueError: latents of other channels or of sides that the patch does not divide; what `prepare` raises.
        """
        config = self.config
        if x.ndim != 4 or x.shape[1] != config.channels:
            raise ValueError(f"i1: latents of shape {tuple(x.shape)}; expected (batch, {config.channels}, height, width)")
        rows, columns = self._grid((x.shape[2], x.shape[3]))
        ready = cond if "adapted" in cond else self.prepare(cond, (x.shape[2], x.shape[3]))
        text, mask, turn = ready["adapted"], ready["adapted_mask"], ready.get("turn")
        kind = self.final_norm.weight.dtype
        image = self.embed(patchify(x.to(kind), config.patch))
        if config.positions != "rope":
            image = image + table(rows, columns, config.width, config.base, str(x.device)).to(kind)
        signal = self._signal(t, text, mask)
        count = image.shape[1]
        for block in self.refine_image:
            (image,) = self._run(block, [image], None if turn is None else turn[:, :count], None, None, signal)
        everything = mask.device.type == "cpu" and bool(mask.all())
        tokens: tuple[Tensor, ...]
        if config.backbone == "cross":
            tokens, keep = (image,), None
        else:
            tokens = (image, text) if config.backbone == "dual" else (torch.cat([image, text], dim=1),)
            keep = None if everything else F.pad(mask, (count, 0), value=True)
        reading = (text, None if everything else mask) if config.backbone == "cross" else (None, None)
        stack: list[tuple[Tensor, ...]] = []
        for i, block in enumerate(self.blocks):
            skips = stack.pop() if config.long_skip and i > config.depth // 2 else None
            tokens = self._run(block, tokens, turn, keep, skips, signal, *reading, count)
            if config.long_skip and i < config.depth // 2:
                stack.append(tokens)
        image = self.final_norm(tokens[0])
        if self.final_modulation is not None:
            shift, scale = self.final_modulation(signal).unflatten(-1, (2, 1, -1)).unbind(1)
            image = modulate(image, shift, scale)
        return unpatchify(self.final(image), config.patch, rows, columns).to(x.dtype)

    def _signal(self, t: Tensor, text_BLW: Tensor, mask_BL: Tensor) -> Tensor | None:
        """SiLU of what modulates: the time's embedding, the mean of the adapted text, or their sum."""
        kind = self.config.modulation
        parts = []
        if self.time is not None and kind in ("time", "both"):
            parts.append(self.time(t))
        if kind in ("text", "both"):
            weight = mask_BL.to(text_BLW.dtype)[:, :, None]
            parts.append((text_BLW * weight).sum(1) / weight.sum(1).clamp(min=1.0))
        return F.silu(sum(parts[1:], parts[0])) if parts else None

    def _run(
        self,
        block: nn.Module,
        tokens: Sequence[Tensor],
        turn: Tensor | None,
        keep: Tensor | None,
        skips: Sequence[Tensor] | None,
        signal: Tensor | None,
        text: Tensor | None = None,
        text_keep: Tensor | None = None,
        lead: int = 0,
    ) -> tuple[Tensor, ...]:
        """A block, run again in the backward pass where `recompute` says so."""

        def go(*tokens: Tensor) -> tuple[Tensor, ...]:
            return block(tokens, turn, keep, skips=skips, signal=signal, text=text, text_keep=text_keep, lead=lead)

        if self.recompute and torch.is_grad_enabled():
            return checkpoint(go, *tokens, use_reentrant=False)  # type: ignore[return-value]
        return go(*tokens)


def _unread(name: str, config: I1Config) -> bool:
    """Whether nothing reads a parameter: a clock without use, and what the last block would make of the text."""
    if name.startswith("time."):
        return config.modulation in ("none", "text")
    last = f"blocks.{config.depth - 1}."
    ending = (f"{last}streams.text.proj.", f"{last}streams.text.mlp.")
    separate = tuple(f"{last}norms.text.{norm}." for norm in ("norm2", "norm3", "norm4", "q"))
    return name.startswith((*ending, *separate))


def _used(mask_BL: Tensor, trim: int) -> int:
    """How many columns of text some row uses, at least one, rounded up to a multiple of `trim`."""
    longest = mask_BL.shape[1]
    if mask_BL.device.type == "meta" or (mask_BL.device.type != "cpu" and not trim):
        return longest
    columns = mask_BL.any(0).nonzero()
    used = int(columns.amax()) + 1 if len(columns) else 1
    step = max(1, trim)
    return min(-(-used // step) * step, longest)
