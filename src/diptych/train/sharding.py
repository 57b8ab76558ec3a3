"""One set of weights cut up over several ranks by torch's own engines: FSDP2 (`fully_shard`) and tensor parallel SwiGLUs.

Nothing here computes: it wraps, gathers and measures. Outside a cut network every function is what it is for plain tensors.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import replace

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

from diptych.models.blocks import SwiGLU
from diptych.train.parallel import Ranks, units


def arrange(here: Ranks, fsdp: int, tensor: int) -> Ranks:
    """Lay the ranks out as copies x shards x tensor parallel parts, the last next to each other.

    Args:
        here: this rank.
        fsdp: ranks that share one set of weights; 0 or 1 = each has its own, -1 = all.
        tensor: ranks that share the work on one row.

    Raises:
        ValueError: numbers that the number of ranks is no multiple of.
    """
    if here.world % tensor:
        raise ValueError(f"train.tensor: {here.world} ranks are no multiple of {tensor}; start others, or set tensor=1")
    rows = here.world // tensor
    shards = rows if fsdp == -1 else max(fsdp, 1)
    if rows % shards:
        raise ValueError(f"train.fsdp: {rows} ranks are no multiple of {fsdp}; start others, or set fsdp=-1 (all) or 0")
    if here.world == 1 or (shards == 1 and tensor == 1):
        return here
    names = ("copies", "shards", "tensor")
    mesh = init_device_mesh(here.device.type, (rows // shards, shards, tensor), mesh_dim_names=names)
    return replace(here, mesh=mesh, tensor=tensor)


def shard(model: nn.Module, mesh: DeviceMesh) -> None:
    """Cut the weights up in place: SwiGLUs over "tensor", then every block of a list, and what is left, over "shards"."""
    tensor = mesh["tensor"]
    if tensor.size() > 1:
        for gated in [module for module in model.modules() if isinstance(module, SwiGLU)]:
            with torch.no_grad():
                for parameter in gated.w12.parameters():
                    parameter.copy_(woven(parameter, tensor.size()))
            parallelize_module(gated, tensor, {"w12": ColwiseParallel(), "w3": RowwiseParallel()})
    over = mesh["shards"] if mesh["copies"].size() == 1 else mesh["copies", "shards"]
    for unit in units(model):
        fully_shard(unit, mesh=over)
    fully_shard(model, mesh=over)


def woven(weight: Tensor, parts: int) -> Tensor:
    """Rows [gate; value] of a SwiGLU's w12 reordered so that each of `parts` equal runs of rows is a [gate; value] again."""
    return weight.unflatten(0, (2, parts, -1)).transpose(0, 1).flatten(0, 2)


def unwoven(weight: Tensor, parts: int) -> Tensor:
    """What `woven` reordered."""
    return weight.unflatten(0, (parts, 2, -1)).transpose(0, 1).flatten(0, 2)


def gather(model: nn.Module, keep: bool) -> dict[str, Tensor]:
    """The whole weights by name, on the CPU, in their plain order; every rank must call it, some may not `keep` what comes."""
    gated = {name for name, module in model.named_modules() if isinstance(module, SwiGLU)}
    found = {}
    for name, value in model.state_dict().items():
        whole = value.full_tensor() if isinstance(value, DTensor) else value
        parts = _parts(value)
        if keep:
            inner = name.rpartition(".w12.")[0] in gated and ".w12." in name and parts > 1
            found[name] = (unwoven(whole, parts) if inner else whole).cpu()
    return found


def _parts(value: Tensor) -> int:
    """Over how many tensor parallel ranks a weight is cut."""
    mesh = value.device_mesh if isinstance(value, DTensor) else None
    return mesh["tensor"].size() if mesh is not None and "tensor" in (mesh.mesh_dim_names or ()) else 1


def twin(model: nn.Module) -> nn.Module:
    """The same network whole, its weights taking no memory until `filled`."""
    bare: dict[int, object] = {
        id(p): nn.Parameter(torch.empty_like(p, device="meta"), p.requires_grad) for p in model.parameters()
    }
    return copy.deepcopy(model, bare)


def filled(bare: nn.Module, weights: Mapping[str, Tensor], device: torch.device) -> nn.Module:
    """A copy of a `twin` with weights, in evaluation mode."""
    model = copy.deepcopy(bare)
    model.load_state_dict(weights, assign=True)
    return model.to(device).eval().requires_grad_(False)


def fill(own: Mapping[str, Tensor], whole: Mapping[str, Tensor]) -> None:
    """Copy whole tensors into tensors of the same names, each rank its part."""
    with torch.no_grad():
        for name, value in whole.items():
            mine = own[name]
            if isinstance(mine, DTensor):
                value = distribute_tensor(value.to(mine.device), mine.device_mesh, mine.placements, src_data_rank=None)
            mine.copy_(value)


def total_norm(grads: Iterable[Tensor]) -> Tensor:
    """The norm of all gradients together; one number, the same on every rank."""
    groups: dict[object, list[Tensor]] = {}
    for grad in grads:
        groups.setdefault(grad.device_mesh if isinstance(grad, DTensor) else None, []).append(grad)
    norms = [torch.nn.utils.get_total_norm(group) for group in groups.values()]
    whole = [norm.full_tensor() if isinstance(norm, DTensor) else norm for norm in norms]
    return whole[0] if len(whole) == 1 else torch.linalg.vector_norm(torch.stack(whole))


def spare_group() -> dist.ProcessGroup:
    """A group of all ranks on the CPU for what is saved in the background, so that it meets no other message."""
    group = dist.new_group(backend="gloo")
    assert isinstance(group, dist.ProcessGroup)
    return group
