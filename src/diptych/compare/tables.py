"""Scores that another tool made, read into the rows that verdicts are made from: CSV, JSONL, Parquet, lm-eval samples.

A table is long (arm, metric, item, value) or wide (arm, item, and a numeric column a metric); seed and replica are optional.
lm-eval's `samples_TASK_DATE.jsonl` has no arm: it is the folder the file lies in, and the item is TASK/doc_id.
"""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from diptych.compare.measure import Table
from diptych.study import Unit

NAMES = ("arm", "item", "seed", "replica")
Scores = dict[str, dict[str, list[Table]]]


def read_rows(paths: Sequence[Path]) -> Scores:
    """arm -> metric -> one table a replica, from one or more files.

    Raises:
        ValueError: a file that is missing, empty or malformed (the line is named), a doubled unit, a value that is no number.
    """
    values: dict[tuple[str, str, int | None], dict[Unit, float]] = {}
    for path in paths:
        for where, arm, metric, item, seed, replica, value in _rows(path):
            if not math.isfinite(value):
                raise ValueError(f"rows: {where}: {metric} of arm {arm!r}, item {item!r} is {value}; leave it out or mend it")
            column = values.setdefault((arm, metric, replica), {})
            unit = Unit(item, seed)
            if unit in column:
                raise ValueError(f"rows: {where}: arm {arm!r} has unit {unit.key} twice under {metric}; keep one")
            column[unit] = value
    if not values:
        raise ValueError(f"rows: {', '.join(map(str, paths))} hold no scores; give arm, item and a numeric column a metric")
    scores: Scores = {}
    for (arm, metric, replica), column in values.items():
        table = Table(tuple(column), np.array(list(column.values()))[:, None], replica)
        scores.setdefault(arm, {}).setdefault(metric, []).append(table)
    return scores


def _rows(path: Path):
    """Yield (where, arm, metric, item, seed, replica, value) of every score of a file."""
    if not path.is_file():
        raise ValueError(f"rows: {path} does not exist; give a .csv, .jsonl or .parquet file")
    readers = {".csv": _csv, ".tsv": _csv, ".jsonl": _jsonl, ".parquet": _parquet}
    if path.suffix not in readers:
        raise ValueError(f"rows: {path.name} is none of {', '.join(sorted(readers))}; convert it")
    for line, record in readers[path.suffix](path):
        where = f"{path.name}, line {line}"
        if "doc_id" in record and "arm" not in record:
            yield from _lm_eval(path, where, record)
            continue
        for name in ("arm", "item"):
            if record.get(name) in (None, ""):
                raise ValueError(f"rows: {where}: no {name!r}; every row needs arm and item")
        arm, item = str(record["arm"]), str(record["item"])
        seed = _whole(record.get("seed"), "seed", where) or 0
        replica = _whole(record.get("replica"), "replica", where)
        if "metric" in record:
            yield where, arm, str(record["metric"]), item, seed, replica, _number(record.get("value"), "value", where)
        else:
            for name, value in record.items():
                if name not in NAMES and value not in (None, ""):
                    yield where, arm, name, item, seed, replica, _number(value, name, where)


def _lm_eval(path: Path, where: str, record: Mapping[str, Any]):
    """lm-evaluation-harness: the metrics a line holds are named in its `metrics`, or are its numeric fields."""
    task = re.sub(r"^samples_|_\d{4}-\d\d-\d\dT.*$", "", path.stem)
    names = record.get("metrics") or [k for k, v in record.items() if isinstance(v, int | float) and k != "doc_id"]
    for name in names:
        if isinstance(record.get(name), int | float):
            yield where, path.parent.name, name, f"{task}/{record['doc_id']}", 0, None, float(record[name])


def _csv(path: Path):
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file, delimiter="\t" if path.suffix == ".tsv" else ",")
        for record in reader:
            if None in record or None in record.values():
                raise ValueError(f"rows: {path.name}, line {reader.line_num}: not as many fields as the header has")
            yield reader.line_num, record


def _jsonl(path: Path):
    with path.open(encoding="utf-8") as file:
        for line, text in enumerate(file, 1):
            if text.strip():
                try:
                    record = json.loads(text)
                except json.JSONDecodeError as error:
                    raise ValueError(f"rows: {path.name}, line {line}: not JSON ({error.msg})") from None
                if not isinstance(record, dict):
                    raise ValueError(f"rows: {path.name}, line {line}: not an object")
                yield line, record


def _parquet(path: Path):
    try:
        from pyarrow import parquet
    except ImportError:
        raise ValueError(f"rows: reading {path.name} needs pyarrow; pip install 'diptych[parquet]'") from None
    yield from enumerate(parquet.read_table(path).to_pylist(), 1)


def _number(value: Any, name: str, where: str) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise ValueError(f"rows: {where}: {name} is {value!r}, not a number; give a number or leave the column out") from None


def _whole(value: Any, name: str, where: str) -> int | None:
    if value in (None, ""):
        return None
    number = _number(value, name, where)
    if number != int(number):
        raise ValueError(f"rows: {where}: {name} is {value!r}, not a whole number")
    return int(number)
