"""Objects named on the command line, "file.py:name" or "package.module:name", and the words for a name that is not known."""

from __future__ import annotations

import ast
import difflib
import hashlib
import importlib
import sys
import types
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def suggest(name: str, names: Iterable[str]) -> str:
    """The end of an "unknown name" message: "; did you mean 'x'?", or what there is to choose from."""
    known = list(names)
    near = difflib.get_close_matches(name.lower(), [one.lower() for one in known], n=1, cutoff=0.55)
    if near:
        return f"; did you mean {next(one for one in known if one.lower() == near[0])!r}?"
    if not known:
        return "; there are none"
    return f"; choose from {', '.join(known[:20])}" + (f" and {len(known) - 20} more" if len(known) > 20 else "")


def load_object(spec: str) -> Any:
    """What "file.py:name" or "package.module:name" names. A file's folder joins sys.path, as with `python file.py`.

    Raises:
        ValueError: no such file, module or name, or a file that raises when it is loaded; in one line.
    """
    place, colon, name = spec.rpartition(":")
    if not colon:
        found = ", ".join(_defined(Path(spec))) if spec.endswith(".py") and Path(spec).is_file() else ""
        raise ValueError(f"{spec}: which name in it? write {spec}:NAME" + (f" (it defines {found})" if found else ""))
    module = _file_module(Path(place)) if place.endswith(".py") else _module(place)
    if not hasattr(module, name):
        public = [
            one for one, value in vars(module).items() if not one.startswith("_") and not isinstance(value, types.ModuleType)
        ]
        raise ValueError(f"{place}: no {name!r} in it{suggest(name, public)}")
    return getattr(module, name)


def _file_module(path: Path) -> types.ModuleType:
    path = path.absolute()
    if not path.is_file():
        near = [other.name for other in path.parent.glob("*.py")] if path.parent.is_dir() else []
        raise ValueError(f"{path.name}: no such file in {path.parent}{suggest(path.name, near) if near else ''}")
    source = path.read_bytes()
    digest = hashlib.blake2b(str(path).encode() + b"\0" + source, digest_size=4).hexdigest()
    name = f"{path.stem}_{digest}"
    if name in sys.modules:
        return sys.modules[name]
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    module = types.ModuleType(name)
    module.__file__ = str(path)
    sys.modules[name] = module  # dataclasses look their module up by name
    try:
        exec(compile(source, str(path), "exec"), module.__dict__)
    except Exception as error:
        del sys.modules[name]
        raise ValueError(f"{path.name}: cannot be loaded: {_last_line(error, str(path))}") from error
    return module


def _module(name: str) -> types.ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            raise ValueError(f"{name}: no such module; a file is written with its ending, such as study.py:name") from None
        raise ValueError(f"{name}: cannot be imported: {error}") from error
    except Exception as error:
        raise ValueError(f"{name}: cannot be imported: {_last_line(error, '')}") from error


def _last_line(error: BaseException, file: str) -> str:
    line = error.lineno if isinstance(error, SyntaxError) else None
    trace = error.__traceback__
    while trace and not isinstance(error, SyntaxError):
        line = trace.tb_lineno if trace.tb_frame.f_code.co_filename == file else line
        trace = trace.tb_next
    said = error.msg if isinstance(error, SyntaxError) else str(error).partition("\n")[0]
    return f"{type(error).__name__}: {said}" + (f" (line {line})" if line else "")


def _defined(path: Path) -> list[str]:
    """Public functions of a file, without running it."""
    try:
        body = ast.parse(path.read_bytes()).body
    except (SyntaxError, ValueError):
        return []
    return [node.name for node in body if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")]
