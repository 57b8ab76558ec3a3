"""`diptych train` and `diptych sample`: what a recipe trains, and pictures or texts from a trained model."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType

from diptych.commands.recipe import Asked, default_size, read_config, recipe_module, sized
from diptych.commands.terminal import hint
from diptych.config import fingerprint, override, parse_seeds, suggest, to_json
from diptych.files import read_json, write_json
from diptych.recipes import RECIPES
from diptych.track import TRACKERS


def train(
    asked: Asked,
    stage: str,
    out: str,
    device: str,
    track: Sequence[str],
    *,
    resume: str = "",
    on: str = "",
    dry_run: bool,
    as_json: bool,
) -> None:
    """Run the training stages of a recipe, all or one; running again goes on where a killed run left off.

    Args:
        resume: folder of a run that must be there, to go on with its settings; "" = go on where there is one, else start.
        on: "ray" hands the networks of a stage to an existing Ray cluster; "" = here, one after the other.

    Raises:
        ValueError: a recipe that trains nothing, an unknown stage, size or field, nothing to resume.
    """
    if resume:
        asked, out = _resumed(asked, resume, out)
    saved = read_config(asked.recipe)
    name = str(saved["recipe"]) if saved else asked.recipe
    module = _part(name, "STAGES", "", "_train")
    if module is None:
        raise ValueError(f"train: recipe {name!r} trains nothing")
    size = asked.size or str((saved or {}).get("size") or "")
    config = override(sized(module.TRAIN, name, size, saved.get("config") if saved else None), asked.set)
    size = size or default_size(module.TRAIN)
    if stage and stage not in module.STAGES:
        raise ValueError(f"--stage {stage}: unknown{suggest(stage, module.STAGES)}")
    unknown = next((one for one in track if one not in TRACKERS), None)
    if unknown is not None:
        raise ValueError(f"--track {unknown}: unknown{suggest(unknown, TRACKERS)}")
    stages = [stage] if stage else list(module.STAGES)
    record = {"recipe": name, "size": size, "config": to_json(config)}
    folder = Path(out or getattr(module, "OUT", "") or f"models/{name}-{size}-{fingerprint(record)[:8]}")
    spread = getattr(module, "SPREAD", {})
    if on and (on not in spread or not stage):
        there = f"give {' or '.join(spread)}, with one --stage" if spread else f"recipe {name!r} trains here only; leave it out"
        raise ValueError(f"--on {on}: {there}")
    if dry_run:
        for line in module.costs(config, stages, folder) if hasattr(module, "costs") else ():
            hint(line)
        print(json.dumps({**record, "stages": stages, "out": folder.as_posix()}, indent=1))
        return
    first = int(os.environ.get("RANK", "0")) == 0
    if first:
        write_json(folder / "config.json", record)
    made = {}
    for one in stages:
        if first:
            hint(f"{name}: stage {one}, into {folder.as_posix()}/")
        run = spread[on](one) if on else module.STAGES[one]
        made[one] = run(config, folder, device=device or None, trackers=tuple(track))
    if first:
        print(json.dumps({one: Path(path).as_posix() for one, path in made.items()}) if as_json else folder.as_posix())


def _resumed(asked: Asked, resume: str, out: str) -> tuple[Asked, str]:
    """The settings and the folder of the run that is to go on."""
    folder = Path(resume)
    saved = read_config(resume) if (folder / "config.json").is_file() else None
    if saved is None or not any(folder.rglob("checkpoints/" + "[0-9]" * 12)):
        raise ValueError(f"--resume {resume}: no run there to go on with; name its folder, or leave --resume out to start one")
    if saved["recipe"] != asked.recipe:
        raise ValueError(f"--resume {resume}: is a run of {saved['recipe']!r}, not of {asked.recipe!r}")
    if asked.size or (out and Path(out) != folder):
        raise ValueError(f"--resume {resume}: goes on with its own size in its own folder; leave --size and --out out")
    return replace(asked, recipe=resume), resume


def sample(
    model: str,
    prompts: Sequence[str],
    file: str,
    recipe: str,
    seeds: str,
    settings: Sequence[str],
    out: str,
    *,
    as_json: bool,
) -> None:
    """Sample a model: a recipe's own weights, a folder that `train` made, or a published checkpoint (with --recipe).

    Raises:
        ValueError: no such model, or a recipe that samples nothing by itself.
    """
    name, weights = model, None
    if model not in RECIPES:
        weights = Path(model)
        if not weights.exists():
            raise ValueError(f"model {model!r}: no such folder, nor a recipe{suggest(model, RECIPES)}")
        name = recipe or _maker(weights)
        if not name:
            raise ValueError(f"{model}: which recipe made it? give --recipe (there are {', '.join(RECIPES)})")
    module = _part(name, "sample", "", "_sample")
    if module is None:
        raise ValueError(f"sample: recipe {name!r} has nothing to sample by itself")
    if file:
        prompts = (*prompts, *lines(Path(file)))
    config = override(module.SAMPLE, settings)
    if not prompts and not getattr(config, "benchmark", ""):
        raise ValueError('sample: no prompts; give some, such as --prompt "red apple, noto style"')
    folder = Path(out or f"runs/samples/{name}")
    paths = module.sample(weights, tuple(prompts), parse_seeds(seeds), folder, config)
    made = [Path(path).as_posix() for path in paths]
    print(json.dumps(made) if as_json else "\n".join(made))


def lines(path: Path) -> list[str]:
    """The prompts of a file, one a line, blank lines left out."""
    if not path.is_file():
        raise ValueError(f"--prompts {path}: no such file; give a text file with one prompt a line")
    lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    if not any(lines):
        raise ValueError(f"--prompts {path}: holds no prompts; write one a line")
    return [line for line in lines if line]


def _part(name: str, attribute: str, *parts: str) -> ModuleType | None:
    """The module of a recipe that defines `attribute`: the recipe's own, or RECIPE_train, RECIPE_sample beside it."""
    for part in parts:
        try:
            module = recipe_module(name, part)
        except ModuleNotFoundError as error:
            if error.name != RECIPES[name] + part:
                raise
            continue
        if hasattr(module, attribute):
            return module
    return None


def _maker(weights: Path) -> str:
    """The recipe that config.json names, in a folder of weights or in the one above it; empty where none does."""
    for folder in (weights, weights.absolute().parent):
        if (folder / "config.json").is_file():
            recipe = read_json(folder / "config.json").get("recipe")
            if isinstance(recipe, str):
                return recipe
    return ""
