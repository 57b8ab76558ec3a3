"""Captions from a vision-language model behind a server, up to five a picture, in the form that `prepare` joins by key.

i1's way: the picture at a short edge of 512 pixels, cropped to a square, one detailed paragraph of at most 256 tokens; for
pictures of words the captioner is also told what stands in them. Our own instructions. Answers are kept as they come, so a
run that is stopped, or whose server goes away, goes on where it was.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from diptych.data.chat_client import AnswerFile, Message, Question, Server, ask, content_key, image_part, text_part
from diptych.data.fitting import cover, encoded
from diptych.data.records import Broken, Record, Source
from diptych.files import write_lines
from diptych.load import suggest

SIDE = 512
MOST = 5  # captions a picture, as the published caption set has

_PAINT = (
    "Write one paragraph from which a painter who cannot see this picture could paint it again. Begin with what it is of, "
    "then give the parts, their number, colours and materials, where they are in the frame and to each other, what is behind "
    "them, the light, and the kind of picture it is (photograph, drawing, rendering, page, ...). Quote any words in it letter "
    "by letter. "
)
_END = "State only what can be seen. Give the paragraph alone, without a heading, a list or a remark of your own."

INSTRUCTIONS = {
    "detailed": _PAINT + _END,
    "rendered": _PAINT
    + "A program read these lines in the picture, possibly with errors:\n{annotation}\nWrite out all the words "
    "as they stand there, in quotation marks, and say of each line its typeface, size, colour, place and slant. " + _END,
    "annotated": _PAINT
    + "This is known of the picture:\n{annotation}\nUse what of it can be seen, and keep its words exactly. "
    + _END,
    "short": "Say in one sentence of at most fifteen words what this picture shows and what kind of picture it is. Give the "
    "sentence alone.",
}
"""What the model is asked; "{annotation}" is `Record.annotation`."""


@dataclass
class Captioned:
    """What came of captioning a set.

    Args:
        pictures: with at least one caption.
        captions: in all.
        kept: of these, answers that were on disk before.
        bad: answers that could not be used, by reason.
        broken: "key: why" of pictures that cannot be read.
    """

    pictures: int = 0
    captions: int = 0
    kept: int = 0
    bad: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)


def caption(
    source: Source,
    out: Path,
    server: Server,
    *,
    instruction: str = "detailed",
    captions: int = 1,
    limit: int = 0,
    broken: int = 100,
    told: Callable[[int, int], None] | None = None,
) -> Captioned:
    """Caption a set into JSON lines: key, caption1, ...; run again to go on, or with more captions to add to them.

    Args:
        source: any set; its own captions are not looked at.
        out: the .jsonl file; answers are kept beside it, in `out` with the ending .answers.jsonl.
        server: the model; caption number n is drawn with `seed` n above the server's, so a temperature of 0 gives one caption.
        instruction: of `INSTRUCTIONS`, or a text of one's own.
        captions: a picture, 1 to 5.
        limit: first pictures only; 0 = all.
        broken: pictures that cannot be read and are skipped before it stops.
        told: hears of progress: (answers, answers wanted).

    Raises:
        ValueError: an unknown instruction, a number out of range, too many broken pictures (named).
        ServerError: the server is gone; what was answered is kept.
    """
    asked = _instruction(instruction)
    if not 1 <= captions <= MOST:
        raise ValueError(f"caption: {captions} captions a picture; give 1 to {MOST}")
    if captions > 1 and not server.temperature and server.temperature is not None:
        raise ValueError(f"caption: {captions} captions at temperature 0 would all be the same; give --temperature")
    if out.suffix != ".jsonl":
        raise ValueError(f"caption: {out} must end in .jsonl")
    rows = range(min(limit or len(source), len(source)))
    answers = AnswerFile(out.with_suffix(".answers.jsonl"))
    done, found, keys = Captioned(), dict[str, list[str]](), dict[str, str]()
    count = 0
    for number in range(captions):
        drawn = replace(server, seed=None if server.seed is None else server.seed + number)
        questions = _questions(source, rows, asked, number, drawn, answers, keys, done, broken)
        for answer in ask(drawn, questions, answers):
            count += 1
            done.kept += answer.kept
            words, why = usable(answer.text, answer.finish)
            if why or answer.refused:
                done.bad["refused" if answer.refused else why] += 1
            else:
                found.setdefault(keys[answer.key], []).append(words)
            if told:
                told(count, captions * len(rows))
    lines = []
    for key in dict.fromkeys(keys.values()):  # in the order of the set
        texts = list(dict.fromkeys(found.get(key, ())))
        if texts:
            lines.append({"key": key, **{f"caption{i}": text for i, text in enumerate(texts, 1)}})
            done.captions += len(texts)
    done.pictures = len(lines)
    write_lines(out, lines)
    return done


def _questions(
    source: Source,
    rows: range,
    asked: str,
    number: int,
    server: Server,
    answers: AnswerFile,
    keys: dict[str, str],
    done: Captioned,
    limit: int,
) -> Iterator[Question]:
    for row in rows:
        try:
            record = source[row]
            words = asked.replace("{annotation}", record.annotation)
            key = content_key(record.key, words, str(number))
            kept = answers.get(key, server.options) is not None
            image = b"" if kept else shown(record)
        except Broken as error:
            if number == 0:
                done.broken.append(str(error))
            if len(done.broken) > limit:
                raise ValueError(
                    f"caption: more than {limit} pictures are broken: {'; '.join(done.broken[:5])}; remove them, or allow more"
                ) from None
            continue
        keys[key] = record.key
        yield Question(key, _message(words, image))


def _message(words: str, image: bytes) -> Callable[[], list[Message]]:
    return lambda: [{"role": "user", "content": [image_part(image), text_part(words)]}]


def _instruction(name: str) -> str:
    if name in INSTRUCTIONS:
        return INSTRUCTIONS[name]
    if len(name.split()) < 3:
        raise ValueError(f"caption: instruction {name!r} is unknown{suggest(name, INSTRUCTIONS)}; or write one out")
    return name


def shown(record: Record) -> bytes:
    """The picture as the captioner sees it: short edge 512, centre, JPEG.

    Raises:
        Broken: it cannot be read.
    """
    return encoded(cover(record.open(), (SIDE, SIDE)), "jpeg")


def usable(text: str, finish: str) -> tuple[str, str]:
    """An answer in one line, and why it cannot be used ("" if it can): one cut off is cut back to its last whole sentence."""
    words = " ".join(text.split())
    if not words:
        return "", "empty"
    if finish == "length":
        whole = re.match(r".*[.!?][\"')]?(?=\s|$)", words)
        return (whole.group(), "") if whole else ("", "cut off")
    return words, ""
