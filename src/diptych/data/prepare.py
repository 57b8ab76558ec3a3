"""Any set of pictures into shards of training size: resized, filtered, joined with captions, without duplicates.

Rows are worked on in parts of `per_shard`, in any process; parts are taken into the set in order, where duplicates and the
cap are decided, so the result does not depend on how many processes worked. A run that was stopped goes on with the first
part that is missing. `parts/` holds what is under way and goes when the set is whole.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from diptych.data import draws
from diptych.data.buckets import assign, bucket_table
from diptych.data.captions import content, look_up
from diptych.data.duplicates import MOST_BITS, Seen, looks
from diptych.data.fitting import FORMATS, cover, encoded
from diptych.data.parts import Done, LeftOut, Parts
from diptych.data.records import Broken, Record, Source
from diptych.data.shards import Ready, Shards, is_prepared, open_shards, short_hash
from diptych.files import read_json
from diptych.load import suggest

DUPLICATES = ("keep", "exact", "near")


@dataclass(frozen=True)
class Settings:
    """How a set is prepared; the defaults are i1's at 256 pixels.

    Args:
        size: pixels a side of the square (or of the square of the buckets' area).
        buckets: keep the aspect: each picture goes to the nearest of `bucket_table(size, multiple, widest)`.
        multiple: divides the sides of the buckets.
        widest: largest aspect a source picture may have (0 = any), and of the buckets (0 = 2).
        format: "png", "webp" (lossless from quality 100 on) or "jpeg".
        quality: of webp and jpeg.
        per_shard: source rows worked on at a time, and the most records of a shard.
        cap: records to keep, a random choice; 0 = all.
        smallest: short edge that a source picture must have; -1 = `size` from 512 pixels on and 0 below, as i1 does.
        fewest, most: words a caption may have (most 0 = any); captions outside are dropped.
        own: keep the captions of the source beside those joined by key.
        bare: keep records without a caption, to be captioned later.
        duplicates: "keep", "exact" (the same bytes) or "near" (alike to the eye, see `duplicates`).
        near: bits of 128 that may differ, for "near".
        broken: broken records skipped before it stops.
        seed: of the choice under a cap.

    Raises:
        ValueError: a value out of range.
    """

    size: int = 256
    buckets: bool = False
    multiple: int = 32
    widest: float = 0.0
    format: str = "png"
    quality: int = 95
    per_shard: int = 1000
    cap: int = 0
    smallest: int = -1
    fewest: int = 1
    most: int = 0
    own: bool = False
    bare: bool = False
    duplicates: str = "keep"
    near: int = 6
    broken: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.size <= 65535 or not self.per_shard >= 1:
            raise ValueError(f"prepare: size {self.size} and per_shard {self.per_shard} must be positive, size below 65536")
        if self.format not in FORMATS:
            raise ValueError(f"prepare: format {self.format!r} is unknown{suggest(self.format, FORMATS)}")
        if self.duplicates not in DUPLICATES:
            raise ValueError(f"prepare: duplicates {self.duplicates!r} is unknown{suggest(self.duplicates, DUPLICATES)}")
        if not 0 <= self.near <= MOST_BITS:
            raise ValueError(f"prepare: near {self.near} is not in 0..{MOST_BITS}")
        if self.most and self.most < self.fewest:
            raise ValueError(
                f"prepare: captions of {self.fewest} to {self.most} words: there are none; give the lower one first"
            )
        if self.widest and self.widest < 1:
            raise ValueError(f"prepare: widest {self.widest} is below 1; it is the longer side over the shorter")
        if min(self.cap, self.broken, self.fewest) < 0 or not 1 <= self.quality <= 100:
            raise ValueError("prepare: cap, broken and fewest must not be negative, quality must be in 1..100")
        self.table()

    def table(self) -> tuple[tuple[int, int], ...]:
        """The sizes pictures are brought to."""
        return bucket_table(self.size, self.multiple, self.widest or 2.0) if self.buckets else ((self.size, self.size),)

    @property
    def short_edge(self) -> int:
        """What a source picture's short edge must have."""
        return self.smallest if self.smallest >= 0 else self.size if self.size >= 512 else 0


I1_256 = Settings()
Told = Callable[[int, int, LeftOut], None]
"""Called after each part with source rows seen, records kept, and the others."""


def prepare(
    source: Source,
    out: Path,
    settings: Settings = I1_256,
    *,
    name: str = "",
    captions: Path | None = None,
    workers: int = 0,
    told: Told | None = None,
) -> Shards:
    """Prepare a set, or go on preparing it.

    Args:
        source: any.
        out: folder of the set; what a stopped run left in it is kept.
        settings: see `Settings`.
        name: of the set; "" = the source's.
        captions: store made by `captions.gather`, joined by key.
        workers: processes; 0 works in this one.
        told: hears of progress.

    Raises:
        ValueError: more broken records than allowed (named, and listed in out/broken.txt), nothing left, a folder that
            holds a set made with other settings, captions or pictures (by `spot_check`).
        StoreError: the disk is full; parts that are done are kept.
    """
    name = name or source.name
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise ValueError(f"prepare: name {name!r} becomes part of file names; use letters, digits, '.', '_' and '-'")
    if captions and not captions.is_file():
        raise ValueError(f"captions {captions}: no such store; make it with captions.gather")
    given = {"name": name, "source": spot_check(source), "rows": len(source), "captions": content(captions) if captions else ""}
    plan = {**given, **asdict(settings)}
    if is_prepared(out):
        _same(read_json(out / "manifest.json")["settings"], plan, out)
        Parts(out, name, plan).clear()
        return open_shards(out)
    parts = Parts(out, name, plan)
    _same(parts.plan(), plan, out)
    accepted = _Accepted(settings, parts, told)
    with _Workers(source, settings, captions, parts, workers) as work:
        for rows in _rounds(source, settings, accepted):
            for number, part in enumerate(_split(rows, settings.per_shard), accepted.parts):
                work.later(number, part)
            accepted.take_all(work)
    if not accepted.kept:
        skipped = (
            ", ".join(f"{count:,} {reason}" for reason, count in accepted.left_out.skipped.items()) or "the source is empty"
        )
        raise ValueError(f"{name}: no record is left of {len(source):,} ({skipped}); look at the settings")
    parts.finish(accepted.left_out)
    return open_shards(out)


def spot_check(source: Source, rows: int = 16) -> str:
    """Hash of some records, evenly apart: tells sets from each other without reading them whole."""
    state = hashlib.blake2b(digest_size=8)
    for row in np.unique(np.linspace(0, len(source) - 1, rows).round().astype(int)) if len(source) else ():
        try:
            record = source[int(row)]
            image = record.image if isinstance(record.image, bytes) else record.image.tobytes()
            state.update(record.key.encode() + image + "\0".join(record.captions).encode())
        except Broken as broken:
            state.update(str(broken).encode())
    return state.hexdigest()


def _same(held: dict, plan: dict, out: Path) -> None:
    differ = [field for field in plan if held.get(field) != plan[field] and field != "broken"]
    if differ:
        field = differ[0]
        raise ValueError(
            f"{out}: was prepared with {field} {held.get(field)!r}, not {plan[field]!r}; give another folder or remove this one"
        )


def _rounds(source: Source, settings: Settings, accepted: _Accepted) -> Iterator[np.ndarray]:
    """Rows to work on: all in order, or under a cap random ones, and more of them until it is reached."""
    total = len(source)
    if not settings.cap or settings.cap >= total:
        yield np.arange(total)
        return
    key, tried = draws.named(settings.seed, "cap"), 0
    while tried < total and accepted.kept < settings.cap:
        lacking = settings.cap - accepted.kept
        more = lacking if not tried else min(max(lacking * tried // max(accepted.kept, 1) * 5 // 4, lacking), 4 * tried)
        places = np.arange(tried, min(tried + more, total))
        tried += len(places)
        yield np.sort(draws.permuted(key, places, total))  # in the source's order: cheap to read


def _split(rows: np.ndarray, size: int) -> Iterator[np.ndarray]:
    return (rows[start : start + size] for start in range(0, len(rows), size))


class _Accepted:
    """The set as it grows: what is kept, left out and seen."""

    def __init__(self, settings: Settings, store: Parts, told: Told | None) -> None:
        self.settings, self.store, self.told = settings, store, told
        self.parts = self.shards = self.kept = self.rows = 0
        self.left_out = LeftOut()
        self.seen = Seen(settings.near if settings.duplicates == "near" else None)

    def take_all(self, work: _Workers) -> None:
        for number, done in work.results():
            if not self.settings.cap or self.kept < self.settings.cap:
                self._take(number, done)
            self.parts = number + 1

    def _take(self, number: int, done: Done) -> None:
        room = self.settings.cap - self.kept if self.settings.cap else len(done.index)
        keep = np.zeros(len(done.index), bool)
        for i, row in enumerate(done.index):
            if keep.sum() == room:
                break
            keep[i] = self._new(row, done)
        if not done.taken:
            self.store.take(number, done, keep, self.shards)
        self.shards += bool(keep.any())
        self.kept += int(keep.sum())
        self.rows += done.rows
        self.left_out.add(done.left_out)
        broken = self.left_out.broken
        if len(broken) > self.settings.broken:
            self.store.name_broken(broken)
            raise ValueError(
                f"{len(broken)} broken records, more than {self.settings.broken}: {'; '.join(broken[:5])}; "
                f"all are in {self.store.out}/broken.txt. Allow more by --broken to go on, or mend them and begin anew"
            )
        if self.told:
            self.told(self.rows, self.kept, self.left_out)

    def _new(self, row: np.void, done: Done) -> bool:
        if self.settings.duplicates == "keep":
            return True
        digest, (first, second), (red, green, blue) = (row[name].tolist() for name in ("digest", "looks", "colour"))
        if not done.taken and self.seen.known(digest, (first, second), (red, green, blue)):
            done.left_out.skipped["duplicate"] += 1
            return False
        self.seen.add(digest, (first, second), (red, green, blue))
        return True


class _Workers:
    """Parts worked on here, as their turn comes, or ahead of it by other processes."""

    def __init__(self, source: Source, settings: Settings, captions: Path | None, parts: Parts, workers: int) -> None:
        self.job = (source, settings, captions, parts)
        self.parts, self.workers = parts, workers
        self.waiting: list[tuple[int, np.ndarray]] = []
        self.pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> _Workers:
        if self.workers:
            self.pool = ProcessPoolExecutor(self.workers, get_context("spawn"), _start, (self.job,))
        return self

    def __exit__(self, *_: object) -> None:
        if self.pool:
            self.pool.shutdown(cancel_futures=True)

    def later(self, number: int, rows: np.ndarray) -> None:
        self.waiting.append((number, rows))

    def results(self) -> Iterator[tuple[int, Done]]:
        """(number, what was made) in order."""
        flying: list[tuple[int, Future[None] | None]] = []
        ahead = 2 * self.workers or 1
        while self.waiting or flying:
            while self.waiting and len(flying) < ahead:
                number, rows = self.waiting.pop(0)
                if self.parts.has(number):
                    flying.append((number, None))
                elif self.pool:
                    flying.append((number, self.pool.submit(_work_there, number, rows)))
                else:
                    work(self.job, number, rows)
                    flying.append((number, None))
            number, future = flying.pop(0)
            if future:
                future.result()
            yield number, self.parts.done(number)


Job = tuple[Source, Settings, Path | None, Parts]
_HERE: dict[str, Job] = {}  # of a worker process: what it was started with


def _start(job: Job) -> None:
    _HERE["job"] = job


def _work_there(number: int, rows: np.ndarray) -> None:
    work(_HERE["job"], number, rows)


def work(job: Job, number: int, rows: Sequence[int] | np.ndarray) -> None:
    """Work on some rows and write what came of them as part `number`."""
    source, settings, captions, parts = job
    left_out = LeftOut()
    parts.write(number, len(rows), _ready(source, settings, captions, rows, left_out), FORMATS[settings.format], left_out)


def _ready(
    source: Source, settings: Settings, captions: Path | None, rows: Sequence[int] | np.ndarray, left_out: LeftOut
) -> Iterator[Ready]:
    for row in rows:
        try:
            made = ready_or_reason(source[int(row)], settings, captions)
        except Broken as error:
            left_out.broken.append(str(error))
            made = "broken"
        if isinstance(made, Ready):
            yield made
        else:
            left_out.skipped[made] += 1


def ready_or_reason(record: Record, settings: Settings, captions: Path | None = None) -> Ready | str:
    """A record as it goes into a shard, or why it does not: "no caption", "caption length", "too small", "too narrow".

    Raises:
        Broken: its picture cannot be read.
    """
    joined = look_up(captions, record.key) if captions else ()
    words = joined + (record.captions if settings.own or captions is None else ())
    fits = tuple(text for text in dict.fromkeys(words) if settings.fewest <= len(text.split()) <= (settings.most or 10**9))
    if not fits and not settings.bare:
        return "caption length" if words else "no caption"
    picture = record.open()
    if min(picture.size) < settings.short_edge:
        return "too small"
    if settings.widest and max(picture.size) > settings.widest * min(picture.size):
        return "too narrow"
    raw = record.image if isinstance(record.image, bytes) else record.image.tobytes()
    table = settings.table()
    picture = cover(picture, assign(*picture.size, table) if settings.buckets else table[0])
    data = encoded(picture, settings.format, settings.quality)
    return Ready(record.key, fits, record.annotation, data, picture.size, short_hash(raw), *looks(picture))
