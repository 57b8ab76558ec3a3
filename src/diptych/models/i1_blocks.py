"""The one block of `I1`: attention and SwiGLU over one or two streams of tokens, with what an ablation may add or leave out.

Shape letters: B batch, L tokens of a stream, S tokens of all streams, W width, H heads, D channels of one head.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diptych.models.blocks import SwiGLU, attention, sincos
from diptych.models.dit import add, modulate
from diptych.models.i1_positions import turned
from diptych.models.rms_norm import LeanRMSNorm


class Norms(nn.Module):
    """The norms of a block: before and, as a sandwich, after its two halves; over queries and keys.

    Args:
        width: channels of a token.
        head: channels of one head.
        sandwich: norms 3 and 4 too.
        qk_norm: q and k too.
    """

    def __init__(self, width: int, head: int, sandwich: bool, qk_norm: bool) -> None:
        super().__init__()
        self.norm1, self.norm2 = LeanRMSNorm(width), LeanRMSNorm(width)
        self.norm3 = LeanRMSNorm(width) if sandwich else nn.Identity()
        self.norm4 = LeanRMSNorm(width) if sandwich else nn.Identity()
        self.q = LeanRMSNorm(head) if qk_norm else nn.Identity()
        self.k = LeanRMSNorm(head) if qk_norm else nn.Identity()


class Stream(nn.Module):
    """The weights that one kind of token has to itself in a block.

    Args:
        width, hidden: of the token and inside the SwiGLU.
        skip: the block joins an earlier block's output, [current, skip] -> Linear.
        ends: nothing reads these tokens after the block: they give keys and values only.
    """

    def __init__(self, width: int, hidden: int, skip: bool, ends: bool) -> None:
        super().__init__()
        self.skip = nn.Linear(2 * width, width) if skip else None
        self.qkv = nn.Linear(width, (2 if ends else 3) * width)
        self.proj = None if ends else nn.Linear(width, width)
        self.mlp = None if ends else SwiGLU(width, hidden)


class CrossAttention(nn.Module):
    """Image tokens read the text; no norm before, no gate after (as in i1's cross-attention baseline).

    Args:
        width, heads: of the tokens.
        qk_norm: RMSNorm over each head's queries and keys.
    """

    def __init__(self, width: int, heads: int, qk_norm: bool) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v, self.proj = (nn.Linear(width, width) for _ in range(4))
        self.q_norm = LeanRMSNorm(width // heads) if qk_norm else nn.Identity()
        self.k_norm = LeanRMSNorm(width // heads) if qk_norm else nn.Identity()

    def forward(self, x_BLW: Tensor, text_BLW: Tensor, keep_BL: Tensor | None) -> Tensor:
        q, k, v = (
            layer(x).unflatten(-1, (self.heads, -1)) for layer, x in ((self.q, x_BLW), (self.k, text_BLW), (self.v, text_BLW))
        )
        return self.proj(attention(self.q_norm(q), self.k_norm(k), v, keep_BL))


class Block(nn.Module):
    """x + norm3(attention(norm1(x))), then x + norm4(SwiGLU(norm2(x))), all streams in one attention.

    Args:
        streams: names of the kinds of token, in the order they come in.
        width, heads, hidden: of all of them.
        sandwich, qk_norm: see `Norms`.
        shared: one set of norms for all streams, or one each.
        skip: see `Stream`.
        modulated: shift, scale and gate from a signal (B, W): Linear(SiLU(signal)), the same for all streams.
        cross: the first stream reads a text between attention and SwiGLU.
        ends: only the leading tokens are read after this block; a second stream has no output.
        keep_unread: that second stream has its weights none the less.
    """

    def __init__(
        self,
        streams: Sequence[str],
        width: int,
        heads: int,
        hidden: int,
        *,
        sandwich: bool = False,
        qk_norm: bool = True,
        shared: bool = True,
        skip: bool = False,
        modulated: bool = False,
        cross: bool = False,
        ends: bool = False,
        keep_unread: bool = False,
    ) -> None:
        super().__init__()
        self.heads, self.ends = heads, ends
        self.streams = nn.ModuleDict(
            {name: Stream(width, hidden, skip, ends and i > 0 and not keep_unread) for i, name in enumerate(streams)}
        )
        sets = ("all",) if shared else streams
        self.norms = nn.ModuleDict({name: Norms(width, width // heads, sandwich, qk_norm) for name in sets})
        self.modulation = nn.Linear(width, 6 * width) if modulated else None
        self.cross = CrossAttention(width, heads, qk_norm) if cross else None

    def forward(
        self,
        tokens: Sequence[Tensor],
        turn: Tensor | None,
        keep: Tensor | None,
        *,
        skips: Sequence[Tensor] | None = None,
        signal: Tensor | None = None,
        text: Tensor | None = None,
        text_keep: Tensor | None = None,
        lead: int = 0,
    ) -> tuple[Tensor, ...]:
        """One tensor (B, L, W) a stream in, one out.

        Args:
            tokens: the streams.
            turn: (B or 1, S, D/2, 2) rotary angles; None = no rotation.
            keep: (B, S) keys that are seen; None = all.
            skips: the earlier block's outputs, where `skip`.
            signal: SiLU of what modulates, where `modulated`, (B, W).
            text, text_keep: what cross-attention reads, (B, L, W), (B, L).
            lead: where the block `ends`: how many leading tokens of the first stream are read after it; the result has these.
        """
        parts: list[tuple[Any, Any]] = [
            (self.streams[name], self.norms["all" if "all" in self.norms else name]) for name in self.streams
        ]
        if skips is not None:
            tokens = [part.skip(torch.cat([x, skip], dim=-1)) for (part, _), x, skip in zip(parts, tokens, skips)]
        change: Sequence[Tensor | None] = (None,) * 6
        if self.modulation is not None:
            change = self.modulation(signal).unflatten(-1, (6, 1, -1)).unbind(1)
        shift1, scale1, gate1, shift2, scale2, gate2 = change
        inputs = [modulate(norms.norm1(x), shift1, scale1) for (_, norms), x in zip(parts, tokens)]
        if self.ends:
            tokens = [tokens[0][:, :lead]]
        mixed = self._attend(parts, inputs, turn, keep, sum(x.shape[1] for x in tokens))
        out = []
        for (part, norms), x, update in zip(parts, tokens, mixed.split([x.shape[1] for x in tokens], dim=1)):
            x = add(x, norms.norm3(part.proj(update)), gate1)
            if self.cross is not None and text is not None:
                x = x + self.cross(x, text, text_keep)
            out.append(add(x, norms.norm4(part.mlp(modulate(norms.norm2(x), shift2, scale2))), gate2))
        return tuple(out)

    def _attend(
        self,
        parts: Sequence[tuple[Any, Any]],
        inputs: Sequence[Tensor],
        turn: Tensor | None,
        keep: Tensor | None,
        rows: int,
    ) -> Tensor:
        """Joint attention of all streams; its first `rows` rows."""
        queries, keys, values = [], [], []
        for (part, norms), x in zip(parts, inputs):
            *q, k, v = part.qkv(x).unflatten(-1, (-1, self.heads, x.shape[-1] // self.heads)).unbind(2)
            if q and sum(each.shape[1] for each in queries) < rows:
                queries.append(norms.q(q[0]))
            keys.append(norms.k(k))
            values.append(v)
        q_BLHD, k_BLHD, v_BLHD = (torch.cat(each, dim=1) if len(each) > 1 else each[0] for each in (queries, keys, values))
        q_BLHD = q_BLHD[:, :rows]
        if turn is not None:
            q_BLHD, k_BLHD = turned(q_BLHD, turn[:, :rows]), turned(k_BLHD, turn)
        return attention(q_BLHD, k_BLHD, v_BLHD, keep)


class Clock(nn.Module):
    """i1's timestep embedding: cosine and sine of its own time, 0 = noise and 1 = data, unscaled -> Linear, SiLU, Linear.

    Args:
        width: channels out.
        features: sine and cosine features, even.
    """

    def __init__(self, width: int, features: int = 256) -> None:
        super().__init__()
        self.features = features
        self.linear1 = nn.Linear(features, width)
        self.linear2 = nn.Linear(width, width)

    def forward(self, t: Tensor) -> Tensor:
        """t: our times, (B,), 0 = data."""
        features = sincos(1 - t, self.features).roll(self.features // 2, 1).to(self.linear2.bias.dtype)
        return self.linear2(F.silu(self.linear1(features)))
