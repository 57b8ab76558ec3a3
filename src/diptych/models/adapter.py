"""Between a frozen text encoder and the network: an MLP or a few transformer blocks, and the learned null text.

Shape letters: B batch, L text tokens, C channels of the text encoder, W width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diptych.models.i1_blocks import Block
from diptych.models.i1_config import I1Config


class Adapter(nn.Module):
    """Text states (B, L, C) -> (B, L, W): Linear, then pre-norm blocks without rotation; or Linear, GELU, Linear.

    Args:
        config: the network's shape.
    """

    def __init__(self, config: I1Config) -> None:
        super().__init__()
        self.config, width = config, config.width
        self.null = nn.Parameter(torch.zeros(1, config.text_tokens if config.null == "prompt" else 1, config.text_width))
        self.inlet = nn.Linear(config.text_width, width)
        self.outlet = None if config.adapter_blocks else nn.Linear(width, width)
        self.blocks = nn.ModuleList(
            Block(("text",), width, config.heads, config.hidden, qk_norm=config.qk_norm) for _ in range(config.adapter_blocks)
        )

    def filled(self, states_BLC: Tensor, mask_BL: Tensor, null_B: Tensor | None) -> tuple[Tensor, Tensor]:
        """States and mask with the null text in the rows where `null_B` is True.

        "token": one real token, so that nothing of the prompt is left in the row. "prompt": the null tokens stand where the
        prompt's did; of a prompt longer than they are, the rest is left out.
        """
        if null_B is None:
            return states_BLC, mask_BL
        longest = states_BLC.shape[1]
        null = self.null[:, :longest]
        null = F.pad(null, (0, 0, 0, longest - null.shape[1]))
        inside = torch.arange(longest, device=mask_BL.device) < self.null.shape[1]
        kept = (inside & mask_BL) if self.config.null == "prompt" else inside.expand_as(mask_BL)
        return torch.where(null_B[:, None, None], null, states_BLC), torch.where(null_B[:, None], kept, mask_BL)

    def forward(self, states_BLC: Tensor, mask_BL: Tensor) -> Tensor:
        x_BLW = self.inlet(states_BLC)
        if self.outlet is not None:
            return self.outlet(F.gelu(x_BLW))
        keep = mask_BL if self.config.adapter_mask else None
        for block in self.blocks:
            (x_BLW,) = block([x_BLW], None, keep)
        return x_BLW
