"""The recipes: each name and the module that holds it.

A recipe module has `CONFIGS` (size -> frozen dataclass) and `study(config) -> Comparison`; further comparisons under the same
config stand in `STUDIES` (name -> function) and are asked for as RECIPE:NAME. What it trains is in `TRAIN` (size
-> frozen dataclass) and `STAGES` (name -> `stage(config, out, device=None, trackers=()) -> Path`). What it samples by itself is
in `SAMPLE` (a frozen dataclass) and `sample(weights, prompts, seeds, out, config) -> paths`, with weights None for its own.
These two lie in the module, or beside it in RECIPE_train.py and RECIPE_sample.py.
"""

RECIPES = {
    "quickstart": "diptych.recipes.quickstart",
    "judge": "diptych.recipes.judge",
    "i1": "diptych.recipes.i1",
    "i1_upstream": "diptych.recipes.i1_upstream",
    "least_action": "diptych.recipes.least_action",
    "quantization": "diptych.recipes.quantization",
    "remasking": "diptych.recipes.remasking",
    "spectral": "diptych.recipes.spectral",
    "text_benchmark": "diptych.recipes.text_benchmark",
}
