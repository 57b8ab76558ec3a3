"""Content keys: the same key for the same content, wherever the checkout lies and whatever a comment says.

An arm's or a metric's key decides what is computed again, so it covers everything a result can depend on: fields, defaults,
closures, weights, files, and the code of the file a function or class stands in. For files outside installed packages the
code of the local files they import counts too.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import inspect
import io
import sys
import sysconfig
import tokenize
import types
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).parent
NAMED_ONLY = {"torch", "numpy", "builtins"} | set(sys.stdlib_module_names)
"""Packages whose functions and classes count by name, not by their source."""


def fingerprint(value: Any) -> str:
    """16 hexadecimal digits of the content of `value`.

    Numbers, text, sequences, mappings, sets, frozen dataclasses (but fields with metadata {"fingerprint": False}), functions,
    partials, methods, classes, enums, arrays, tensors, torch modules, and existing files and folders as `Path`.

    Raises:
        ValueError: anything else, a path that does not exist, or a function without a source file.
    """
    return _digest(value, ()).hex()[:16]


def _digest(value: Any, above: tuple[int, ...]) -> bytes:
    if id(value) in above:  # a recursive closure
        return _hash("cycle", str(len(above) - above.index(id(value))))
    inside = (*above, id(value))

    def each(values: Iterable[Any]) -> list[bytes]:
        return [_digest(one, inside) for one in values]

    if value is None or isinstance(value, bool):
        return _hash("constant", repr(value))
    if isinstance(value, Enum):
        return _hash("enum", _identity(type(value)), value.name)
    if isinstance(value, int | float):
        return _hash("number", repr(int(value)) if isinstance(value, int) or value.is_integer() else repr(float(value)))
    if isinstance(value, str | bytes | complex):
        return _hash(type(value).__name__, value if isinstance(value, bytes) else str(value))
    if isinstance(value, tuple | list | range):
        return _hash("sequence", *each(value))
    if isinstance(value, Mapping):
        pairs = [key + item for key, item in zip(each(value.keys()), each(value.values()), strict=True)]
        return _hash("mapping", *sorted(pairs))
    if isinstance(value, AbstractSet):
        return _hash("set", *sorted(each(value)))
    if isinstance(value, Path):
        return _hash("path", path_digest(value))
    if isinstance(value, type):
        return _hash("class", _identity(value))
    if is_dataclass(value):
        return _dataclass_digest(value, inside)
    if isinstance(value, functools.partial):
        return _hash("partial", *each((value.func, value.args, value.keywords)))
    if isinstance(value, functools._lru_cache_wrapper):
        return _digest(value.__wrapped__, above)
    if isinstance(value, types.MethodType):
        return _hash("method", *each((value.__func__, value.__self__)))
    if isinstance(value, types.FunctionType):
        cells = [(name, _cell(cell)) for name, cell in zip(value.__code__.co_freevars, value.__closure__ or (), strict=True)]
        parts = each((value.__defaults__, value.__kwdefaults__, cells, _unnamed(value)))
        return _hash("function", _identity(value), *parts)
    if isinstance(value, types.CodeType):
        return _hash("code", value.co_code, *each((value.co_consts, value.co_names, value.co_freevars)))
    if isinstance(value, types.ModuleType):
        file = Path(getattr(value, "__file__", None) or "")
        return _hash("module", value.__name__ if not file.name or _installed(file) else code_digest(file))
    if isinstance(value, types.BuiltinFunctionType | types.MethodDescriptorType) and _plain_builtin(value):
        return _hash("builtin", str(getattr(value, "__module__", None)), value.__qualname__)
    return _array_digest(value, inside)


def _hash(*parts: str | bytes) -> bytes:
    """Hash of tagged parts; lengths go in, so that no two lists of parts collide."""
    state = hashlib.blake2b(digest_size=16)
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        state.update(len(data).to_bytes(8, "little") + data)
    return state.digest()


def _dataclass_digest(value: Any, inside: tuple[int, ...]) -> bytes:
    if not _frozen(value):
        raise ValueError(f"cannot fingerprint {_name(value)}: its dataclass is not frozen; make it @dataclass(frozen=True)")
    taken = [field for field in fields(value) if field.metadata.get("fingerprint", True)]
    parts = [_hash(field.name, _digest(getattr(value, field.name), inside)) for field in taken]
    return _hash("dataclass", _identity(type(value)), *parts)


def _frozen(value: Any) -> bool:
    return not isinstance(value, type) and type(value).__dataclass_params__.frozen


def _array_digest(value: Any, inside: tuple[int, ...]) -> bytes:
    """Arrays, tensors and torch modules; numpy and torch are looked up, never imported."""
    numpy, torch = sys.modules.get("numpy"), sys.modules.get("torch")
    if numpy and isinstance(value, numpy.generic):
        return _digest(value.item(), inside)
    if numpy and isinstance(value, numpy.dtype):
        return _hash("dtype", value.str)
    if numpy and isinstance(value, numpy.ufunc):
        return _hash("ufunc", value.__name__)
    if numpy and isinstance(value, numpy.ndarray) and not value.dtype.hasobject:
        return _hash("array", value.dtype.str, repr(value.shape), numpy.ascontiguousarray(value).tobytes())
    if torch and isinstance(value, torch.Tensor) and value.layout == torch.strided and value.device.type != "meta":
        flat = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        return _hash("tensor", str(value.dtype), repr(tuple(value.shape)), flat.numpy().tobytes())
    if torch and isinstance(value, torch.dtype | torch.device | torch.Size):
        return _hash("torch", str(value))
    if torch and isinstance(value, torch.nn.Module):
        state = {name: entry for name, entry in value.state_dict().items() if isinstance(entry, torch.Tensor)}
        parts = [(name, type(one), _settings(one)) for name, one in value.named_modules()]
        return _hash("module", _digest(state, inside), _digest(parts, inside))
    if type(value).__name__ == "_ArrayFunctionDispatcher":  # numpy's own functions
        return _hash("numpy", value.__module__, value.__qualname__)
    if callable(value):
        raise ValueError(f"cannot fingerprint {_name(value)}; make it a function or a frozen dataclass with __call__")
    raise ValueError(f"cannot fingerprint {_name(value)}; make it a frozen dataclass")


def _settings(module: Any) -> dict[str, Any]:
    """The plain public attributes of a torch module: what its weights do not tell (heads, eps, the config)."""
    plain = (bool, int, float, str, type(None))
    return {
        name: value
        for name, value in vars(module).items()
        if not name.startswith("_")
        and name != "training"
        and (
            isinstance(value, plain)
            or (isinstance(value, tuple | list) and all(isinstance(one, plain) for one in value))
            or (is_dataclass(value) and _frozen(value))
        )
    }


def _unnamed(function: types.FunctionType) -> types.CodeType | None:
    """The code of a lambda or an inner function, of which a file may hold several of one name."""
    return function.__code__ if "<" in function.__qualname__ else None


def _cell(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not yet assigned
        return None


def _plain_builtin(value: Any) -> bool:
    owner = getattr(value, "__self__", None)
    return owner is None or isinstance(owner, types.ModuleType | type)


def _name(value: Any) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"


def _identity(thing: Callable[..., Any] | type) -> str:
    """Qualified name and code of a function or class; the name alone for torch, numpy and the standard library."""
    module = str(thing.__module__)
    if module.partition(".")[0] in NAMED_ONLY:
        return f"{module}.{thing.__qualname__}"
    try:
        file = inspect.getsourcefile(thing)
    except TypeError:
        file = None
    if file and Path(file).is_file():
        return f"{thing.__qualname__} {code_digest(Path(file))}"
    try:  # a notebook's cell
        return f"{thing.__qualname__} {inspect.getsource(thing)}"
    except (OSError, TypeError):
        raise ValueError(f"cannot fingerprint {thing.__qualname__}: its source is not found; put it in a file") from None


def path_digest(path: Path) -> str:
    """Content of a file, or of a folder with the names in it; remembered while size and time of change stay.

    Raises:
        ValueError: the path does not exist.
    """
    if path.is_dir():
        found = sorted(one for one in path.rglob("*") if one.is_file() and "__pycache__" not in one.parts)
        return _hash(*[part for one in found for part in (one.relative_to(path).as_posix(), path_digest(one))]).hex()
    if not path.is_file():
        raise ValueError(f"{path} does not exist; results that depend on it cannot be keyed")
    stat = path.stat()
    return _file_digest(str(path.absolute()), stat.st_mtime_ns, stat.st_size)


@functools.lru_cache(maxsize=65536)
def _file_digest(path: str, changed: int, size: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def code_digest(path: Path) -> str:
    """The code of a Python file without comments, docstrings and blank lines; a user's file with the local files it imports."""
    files = [path] if _installed(path) else _with_imports(path)
    return _hash(*[_code_digest(str(file), file.stat().st_mtime_ns, file.stat().st_size) for file in files]).hex()


@functools.lru_cache(maxsize=4096)
def _code_digest(path: str, changed: int, size: int) -> str:
    source = Path(path).read_bytes()
    try:
        return _hash(code_text(source.decode("utf-8"))).hex()
    except (SyntaxError, ValueError, tokenize.TokenError):
        return _hash(source).hex()


def code_text(source: str) -> str:
    """Source without comments, docstrings, blank lines and trailing space, the same under every Python version."""
    lines = source.replace("\r\n", "\n").split("\n")
    kept = set[int]()  # rows that end inside a string, where blanks are content
    drop = set[int]()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            drop.update(_docstring_rows(node.body, lines))
        elif isinstance(node, ast.Constant | ast.JoinedStr):
            kept.update(range(node.lineno, node.end_lineno or node.lineno))
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column]
    texts = [(row, line if row in kept else line.rstrip()) for row, line in enumerate(lines, 1) if row not in drop]
    return "\n".join(line for row, line in texts if line or row in kept)


def _docstring_rows(body: list[ast.stmt], lines: list[str]) -> range:
    """The rows of a docstring that shares none with code."""
    first = body[0] if body else None
    if not (isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)):
        return range(0)
    last = first.end_lineno or first.lineno
    before = lines[first.lineno - 1].encode()[: first.col_offset]
    after = lines[last - 1].encode()[first.end_col_offset :].strip()
    return range(first.lineno, last + 1) if not before.strip() and after[:1] in (b"", b"#") else range(0)


def _installed(path: Path) -> bool:
    """Whether a file belongs to this package, the standard library or an installed package."""
    path = path.resolve()
    library = Path(sysconfig.get_paths()["stdlib"]).resolve()
    return path.is_relative_to(PACKAGE.resolve()) or path.is_relative_to(library) or "site-packages" in path.parts


def _with_imports(path: Path) -> list[Path]:
    """A user's file and the local files it imports, transitively, in a fixed order."""
    found: list[Path] = []
    waiting = [path.resolve()]
    while waiting:
        file = waiting.pop()
        if file not in found:
            found.append(file)
            waiting.extend(_imported(file))
    return [found[0], *sorted(found[1:], key=lambda one: one.relative_to(_root(path.resolve())).as_posix())]


def _root(path: Path) -> Path:
    """The folder that absolute imports of a file start from."""
    folder = path.parent
    while (folder / "__init__.py").is_file():
        folder = folder.parent
    return folder


def _imported(path: Path) -> list[Path]:
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return []
    places: list[Path] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            places += [_root(path).joinpath(*alias.name.split(".")) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = path.parents[node.level - 1] if node.level else _root(path)
            module = base.joinpath(*(node.module or "").split("."))
            places += [module, *(module / alias.name for alias in node.names)]
    files = [file for place in places for file in (place.with_name(f"{place.name}.py"), place / "__init__.py")]
    return [file.resolve() for file in files if file.is_file() and not _installed(file)]
