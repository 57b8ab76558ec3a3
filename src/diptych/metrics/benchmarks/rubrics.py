"""What a vision-language model is told when it judges: our own words. The published rubrics can be given in their place.

A judge told otherwise than the published one gives other marks; results say which words were used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from diptych.files import read_json
from diptych.metrics.benchmarks.prism import TRACKS

_REPLY = (
    'Answer with one JSON object and nothing else: {"justification": "one sentence on what cost points", "score":'
    " a number from 0 to 10}.\n\nPrompt: {text_prompt}"
)
_MARK = (
    "You mark one picture that an image generator made for the prompt below. Be strict and consistent: begin at "
    "10 and take points off; 10 means that nothing is wrong, 5 that the main thing is there but much is off, 0 to"
    " 2 that the picture misses the prompt. "
)
_LOOK_FOR = {
    "affection": (
        "First the content: subjects, setting and actions (up to 8 points off), and their attributes (up to 5). "
        "Then the feeling that the prompt asks for: off if light, colour and composition carry another mood (up "
        "to 5) or only a worn-out symbol of it (up to 4)."
    ),
    "composition": (
        "Count every kind of object (a wrong count of a main object: up to 5 points off), check where things "
        "stand to one another (up to 5), their attributes (up to 4) and what they do with each other (up to 4). "
        "Slips in minor objects cost up to 2."
    ),
    "entity": (
        "The prompt names somebody or something particular. Take off if it is in the wrong scene (up to 6 "
        "points), is hard to recognise or could be anybody (up to 5), or if details of the scene are missing (up "
        "to 4) or of the entity itself (up to 3)."
    ),
    "imagination": (
        "The prompt describes something that does not exist. Take off for a defining feature that is missing (up "
        "to 6 points), parts that do not make one whole (up to 5), a wrong material or quality (up to 4), wrong "
        "surroundings (up to 3)."
    ),
    "long_text": (
        "The prompt is long. List its main elements and all its details. A main element that is missing costs up "
        "to 7 points, most details missing up to 5, a detail that is wrong up to 4, and each small thing left out"
        " 1."
    ),
    "style": (
        "Is the content right (up to 7 points off), and is the style that the prompt names carried by technique, "
        "material and composition rather than laid over the picture like a filter (up to 6)? Marks of the style "
        "that are missing cost up to 4, uneven style up to 3."
    ),
    "text_rendering": (
        "The picture should carry written words. Compare them letter by letter with the prompt: any wrong or "
        "missing letter costs up to 8 points, words that cannot be read up to 5, letters that do not sit in the "
        "scene up to 5, a wrong place or typeface up to 4."
    ),
}
_LOOKS = (
    "You inspect one picture that an image generator made for the prompt below, for faults of making alone, as a "
    "picture editor would. Begin at 10. Broken anatomy or structure of a main subject, impossible physics that "
    "the prompt did not ask for, watermarks: 7 to 9 points off. Warped or textureless main surfaces, repeated "
    "patterns, blur where detail matters, nonsense in minor things: 4 to 6 off. Slight awkwardness, soft corners,"
    " faint artefacts: 1 to 3 off. What the prompt explicitly asks for is no fault. "
)


@dataclass(frozen=True)
class Rubrics:
    """Instructions; "{text_prompt}" and "{question}" stand for what is judged.

    Args:
        name: "ours", or the file they came from; part of what identifies a judge.
        question: for yes-or-no questions. transcribe: for reading. alignment: by track. aesthetic: for all tracks.
    """

    name: str = "ours"
    question: str = "Look at the picture and answer with one word, yes or no.\n\n{question}"
    transcribe: str = (
        "Write down all text that can be read in this picture, each piece once, one line of the picture a line, and nothing "
        "else. "
        'If there is none, write "No text recognized".'
    )
    alignment: Mapping[str, str] = field(
        default_factory=lambda: {track: f"{_MARK}{_LOOK_FOR[track]}\n\n{_REPLY}" for track in TRACKS}
    )
    aesthetic: str = f"{_LOOKS}\n\n{_REPLY}"


def read_rubrics(path: Path) -> Rubrics:
    """Instructions from a JSON file with any of "question", "transcribe", "alignment" (by track) and "aesthetic".

    Raises:
        ValueError: no such file, an unknown field or track, or a rubric that does not quote what is judged.
    """
    given: Any = read_json(path)
    known = {"question": "{question}", "transcribe": "", "alignment": "", "aesthetic": "{text_prompt}"}
    odd = sorted(set(given) - set(known)) if isinstance(given, dict) else ["(no object)"]
    if odd:
        raise ValueError(f"{path}: {odd[0]!r} is none of {', '.join(known)}")
    alignment = given.get("alignment", {})
    strange = sorted(set(alignment) - set(TRACKS))
    if strange:
        raise ValueError(f"{path}: alignment: {strange[0]!r} is none of the tracks {', '.join(TRACKS)}")
    texts = [(name, given[name], mark) for name, mark in known.items() if name in given and name != "alignment"]
    texts += [(f"alignment.{track}", text, "{text_prompt}") for track, text in alignment.items()]
    for name, text, mark in texts:
        if not isinstance(text, str) or mark not in text:
            raise ValueError(f"{path}: {name}: must be text that holds {mark or 'something'}")
    plain = {name: text for name, text, _ in texts if "." not in name}
    ours = Rubrics()
    return Rubrics(path.name, **plain, alignment={**ours.alignment, **alignment})
