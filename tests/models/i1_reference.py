"""Section 1.2 of i1's description in plain torch, on a published checkpoint's tensors: no module, no trick, any dtype.

Everything is computed for all 256 text tokens and padding is masked. `prepare` is what the official sampler keeps over steps;
`velocity` is a step. Time runs from noise to data here, and the network does not read it.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

Weights = dict[str, Tensor]


def linear(w: Weights, name: str, x: Tensor) -> Tensor:
    return F.linear(x, w[f"{name}.weight"], w[f"{name}.bias"])


def rms(w: Weights, name: str, x: Tensor) -> Tensor:
    return x * torch.rsqrt((x * x).mean(-1, keepdim=True) + 1e-6) * w[f"{name}.scale"]


def swiglu(w: Weights, name: str, x: Tensor) -> Tensor:
    gate, value = linear(w, f"{name}.w12", x).chunk(2, -1)
    return linear(w, f"{name}.w3", F.silu(gate) * value)


def heads(x: Tensor, count: int) -> Tensor:
    """(B, L, h) -> (B, heads, L, d), heads outermost in the channels."""
    b, length, width = x.shape
    return x.reshape(b, length, count, width // count).permute(0, 2, 1, 3)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Pairs (2i, 2i + 1) of (B, heads, L, d) by angles of (B, L, d / 2)."""
    even, odd = x[..., 0::2], x[..., 1::2]
    cos, sin = cos[:, None], sin[:, None]
    return torch.stack([even * cos - odd * sin, even * sin + odd * cos], -1).flatten(-2)


def mixed(q: Tensor, k: Tensor, v: Tensor, keep: Tensor | None) -> Tensor:
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=None if keep is None else keep[:, None, None, :])
    return out.permute(0, 2, 1, 3).flatten(2)


def split(w: Weights, name: str, norms: str, x: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys (both normed) and values of (B, heads, L, d)."""
    q, k, v = (heads(part, count) for part in linear(w, name, x).chunk(3, -1))
    return rms(w, f"{norms}.q_norm", q), rms(w, f"{norms}.k_norm", k), v


def adapter(w: Weights, text: Tensor, count: int) -> Tensor:
    """Every token sees every other, padding too; no rotation, no norm after."""
    at = "text_encoder_adapter"
    x = linear(w, f"{at}.connector_in", text)
    for k in range(8):
        suffix = "" if k == 0 else str(k + 1)
        if f"{at}.connector_mlp{suffix}.w3.bias" not in w:
            break
        attn = f"{at}.connector_attn{suffix}"
        q, key, v = split(w, f"{attn}.qkv", attn, rms(w, f"{at}.connector_norm{2 * k + 1}", x), count)
        x = x + linear(w, f"{attn}.proj", mixed(q, key, v, None))
        x = x + swiglu(w, f"{at}.connector_mlp{suffix}", rms(w, f"{at}.connector_norm{2 * k + 2}", x))
    return x


def angles(mask: Tensor, rows: int, columns: int, head: int, dtype: torch.dtype, base: int) -> tuple[Tensor, Tensor]:
    """Cosine and sine (B, N + L, head / 2): text token i at (i, 0, 0), the picture at (L, row, column), scaled."""
    scale = base / (rows * columns) ** 0.5
    out = []
    for row in mask:
        places = []
        for y in range(rows):
            places += [(float(row.sum()), y * scale, x * scale) for x in range(columns)]
        places += [(float(i), 0.0, 0.0) if seen else (0.0, 0.0, 0.0) for i, seen in enumerate(row.tolist())]
        at = torch.tensor(places, dtype=torch.float64)
        parts = []
        for axis, width in enumerate((head // 2, head // 4, head // 4)):
            frequency = 10000.0 ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
            parts.append(at[:, axis : axis + 1] * frequency)
        out.append(torch.cat(parts, 1))
    stacked = torch.stack(out)
    return stacked.cos().to(dtype), stacked.sin().to(dtype)


def sincos_table(rows: int, columns: int, width: int, dtype: torch.dtype, base: int) -> Tensor:
    """(N, width): [column, row], each [sin, cos] of width / 4 frequencies."""
    scale, quarter = base / (rows * columns) ** 0.5, width // 4
    frequency = 10000.0 ** (-torch.arange(quarter, dtype=torch.float64) / quarter)
    places = [(x * scale, y * scale) for y in range(rows) for x in range(columns)]
    lines = [torch.cat([wave(at * frequency) for at in place for wave in (torch.sin, torch.cos)]) for place in places]
    return torch.stack(lines).to(dtype)


def prepare(
    w: Weights, text: Tensor, mask: Tensor, null: Tensor, size: tuple[int, int], count: int, base: int = 16
) -> tuple[Tensor, ...]:
    """Adapter output, mask and tables of position; the null caption stands in rows of `null`, under the prompt's own mask."""
    text = torch.where(null[:, None, None], w["text_encoder_adapter.learnable_null_caption"], text)
    width, _, _, patch = w["x_embedder.proj.weight"].shape
    rows, columns = size[0] // patch, size[1] // patch
    cos, sin = angles(mask, rows, columns, width // count, text.dtype, base)
    return adapter(w, text, count), mask, cos, sin, sincos_table(rows, columns, width, text.dtype, base)


def block(w: Weights, at: str, image: Tensor, text: Tensor, ready: tuple[Tensor, ...], count: int) -> tuple[Tensor, Tensor]:
    _, mask, cos, sin, _ = ready
    n = image.shape[1]
    i = split(w, f"{at}.attn.qkv_image", f"{at}.attn", rms(w, f"{at}.norm1", image), count)
    t = split(w, f"{at}.attn.qkv_text", f"{at}.attn", rms(w, f"{at}.norm1", text), count)
    q, k, v = (torch.cat([a, b], 2) for a, b in zip(i, t))
    keep = torch.cat([torch.ones_like(mask[:, :1]).expand(-1, n), mask], 1)
    joint = mixed(rotate(q, cos, sin), rotate(k, cos, sin), v, keep)
    seen = mask[:, :, None].to(text.dtype)
    image = image + rms(w, f"{at}.norm3", linear(w, f"{at}.attn.proj_image", joint[:, :n]))
    text = text + rms(w, f"{at}.norm3", linear(w, f"{at}.attn.proj_text", joint[:, n:] * seen))
    image = image + rms(w, f"{at}.norm4", swiglu(w, f"{at}.mlp_image", rms(w, f"{at}.norm2", image)))
    text = text + rms(w, f"{at}.norm4", swiglu(w, f"{at}.mlp_text", rms(w, f"{at}.norm2", text)))
    return image, text * seen


def velocity(w: Weights, x: Tensor, ready: tuple[Tensor, ...], depth: int, count: int) -> Tensor:
    """data - noise, (B, C, H, W)."""
    entry = w["x_embedder.proj.weight"]
    patch = entry.shape[-1]
    rows, columns = x.shape[2] // patch, x.shape[3] // patch
    image = F.conv2d(x, entry, w["x_embedder.proj.bias"], stride=patch).flatten(2).transpose(1, 2)
    image = image + ready[4]
    text, stack, half = ready[0], [], depth // 2
    for i in range(half):
        image, text = block(w, f"in_blocks.{i}", image, text, ready, count)
        stack.append((image, text))
    image, text = block(w, "mid_block", image, text, ready, count)
    for i in range(depth - half - 1):
        at = f"out_blocks.{i}"
        skip_image, skip_text = stack.pop()
        if f"{at}.skip_linear_image.weight" in w:
            image = linear(w, f"{at}.skip_linear_image", torch.cat([image, skip_image], -1))
            text = linear(w, f"{at}.skip_linear_text", torch.cat([text, skip_text], -1))
        image, text = block(w, at, image, text, ready, count)
    out = linear(w, "final_layer.linear", rms(w, "final_layer.norm_final", image))
    grid = out.reshape(len(x), rows, columns, patch, patch, x.shape[1])
    return torch.einsum("brcyxk->bkrycx", grid).reshape(x.shape)
