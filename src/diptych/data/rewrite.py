"""Rewriting prompts for a model that was trained on long captions: by a language model behind a server, checked, kept on disk.

Short prompts are filled out (route A); dense, long or quoting ones are put in order and nothing is added (route B). What one
quotes must come back letter by letter and the answer must have a sensible length; else it is asked for again, and in the end
the prompt stays as it was. Pictures are judged by the original, so both are kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from diptych.data.chat_client import Answer, AnswerFile, Message, Question, Server, ask, content_key

Route = Literal["A", "B"]
SHORT = 25
"""Words below which a prompt that quotes nothing long is filled out."""
QUOTED_MOST = 4
"""Quoted words beyond which a prompt is one about its text."""

_SINGLE = re.compile(r"(?<!\w)'([^'\n]+(?:'\w[^'\n]*)*)'(?!\w)")
_DOUBLE = re.compile(r'"([^"\n]+)"|\u201c([^\u201d\n]+)\u201d')
_RULES = (
    "You rewrite prompts for an image generator that was trained on captions of one dense paragraph. Write one "
    "paragraph of {least} to {most} words in plain English, present tense, that describes the picture as if it "
    "were there. Keep every object, number, colour, place and relation of the prompt, and contradict none of "
    "them. Copy text in quotation marks letter by letter, in double quotation marks, once. Write the paragraph "
    "and nothing else."
)
INSTRUCTIONS: dict[Route, str] = {
    "A": (
        _RULES + " The prompt is short. Name the objects one after the other, each with its colour and material right "
        "beside it. Say how many there are of each in words, and that there are no more. Say where each stands in"
        " the frame and to the others, and keep them apart from one another. Then add light, surface and a simple"
        " background that does not compete. Lettering is large and of high contrast."
    ),
    "B": (
        _RULES + " The prompt is dense or about its text. Begin with the main subject. Add no objects. Put into short "
        "active sentences what is there, from large to small, and say concretely what is said poetically. Say for"
        " every quoted text where it stands and that it can be read clearly; if there is much of it, leave the "
        "background plain. End with the style, if there is one."
    ),
}


@dataclass(frozen=True)
class Rewriting:
    """How prompts are rewritten.

    Args:
        server: the language model; a temperature above 0 is as it should be, `seed` makes it repeatable where the server can.
        least, most: words of a good answer; with much quoted text `most` grows by it.
        rounds: how often an answer that fails is asked for again with another seed.
    """

    server: Server
    least: int = 75
    most: int = 150
    rounds: int = 3

    def __post_init__(self) -> None:
        if not 0 < self.least < self.most or self.rounds < 1:
            raise ValueError(
                f"rewriting: least={self.least}, most={self.most}, rounds={self.rounds}: give 0 < least < most, rounds > 0"
            )


@dataclass(frozen=True)
class Rewritten:
    """A prompt and what became of it.

    Args:
        original: what pictures are judged by.
        text: what the model is given; the original where `failed`.
        route: how it was rewritten.
        failed: why no answer would do; empty where one did.
        tries: answers looked at.
    """

    original: str
    text: str
    route: Route
    failed: str = ""
    tries: int = 1


def quoted(text: str) -> tuple[str, ...]:
    """Text in single, double or curly double quotation marks, in order; an apostrophe inside a word opens nothing."""
    found = [(match.start(), match[1] or match[2]) for match in _DOUBLE.finditer(text)]
    inside = [range(match.start(), match.end()) for match in _DOUBLE.finditer(text)]
    single = [match for match in _SINGLE.finditer(text) if not any(match.start() in span for span in inside)]
    return tuple(words for _, words in sorted([*found, *((match.start(), match[1]) for match in single)]))


def route(prompt: str) -> Route:
    """ "A" for under `SHORT` words with at most `QUOTED_MOST` of them quoted, else "B"."""
    many = sum(len(text.split()) for text in quoted(prompt)) > QUOTED_MOST
    return "B" if many or len(prompt.split()) >= SHORT else "A"


def fault(prompt: str, answer: str, rewriting: Rewriting) -> str:
    """What is wrong with an answer; empty where nothing is."""
    texts = quoted(prompt)
    lost = next((text for text in texts if text not in answer), "")
    if lost:
        return f"the quoted text {lost!r} did not come back"
    count = len(answer.split())
    most = rewriting.most + sum(len(text.split()) for text in texts)
    if not rewriting.least <= count <= most:
        return f"{count} words, not {rewriting.least} to {most}"
    extra = next((text for text in quoted(answer) if not any(text in mine or mine in text for mine in texts)), "")
    return f"quotes {extra!r}, which the prompt does not" if extra else ""


def rewrite(prompts: Sequence[str], rewriting: Rewriting, answers: AnswerFile) -> list[Rewritten]:
    """Every prompt rewritten, in order; what was answered before is not asked again.

    Args:
        answers: kept answers; the model, its options, the instruction and the prompt are what they are kept by.

    Raises:
        ValueError: an empty prompt.
        ServerError: the server is not there; what was answered is kept.
    """
    empty = next((n for n, prompt in enumerate(prompts) if not prompt.strip()), None)
    if empty is not None:
        raise ValueError(f"rewriting: prompt {empty + 1} is empty; leave it out")
    done: dict[str, Rewritten] = {}
    open_ = list(dict.fromkeys(prompts))
    for turn in range(rewriting.rounds):
        server = replace(rewriting.server, seed=(rewriting.server.seed or 0) + turn)
        failed = []
        for prompt, answer in _asked(open_, replace(rewriting, server=server), answers):
            wrong = answer.refused or (
                "cut off" if answer.finish == "length" else fault(prompt, _plain(answer.text), rewriting)
            )
            text = prompt if wrong else _plain(answer.text)
            done[prompt] = Rewritten(prompt, text, route(prompt), wrong, turn + 1)
            failed += [prompt] if wrong else []
        open_ = [prompt for prompt in open_ if prompt in set(failed)]
        if not open_:
            break
    return [done[prompt] for prompt in prompts]


def _asked(prompts: Iterable[str], rewriting: Rewriting, answers: AnswerFile) -> Iterator[tuple[str, Answer]]:
    keys: dict[str, str] = {}

    def questions() -> Iterator[Question]:
        for prompt in prompts:
            told = INSTRUCTIONS[route(prompt)].format(least=rewriting.least, most=rewriting.most)
            key = content_key(told, prompt)
            keys[key] = prompt
            messages: list[Message] = [{"role": "system", "content": told}, {"role": "user", "content": prompt}]
            yield Question(key, lambda messages=messages: messages)

    for answer in ask(rewriting.server, questions(), answers):
        yield keys[answer.key], answer


def _plain(text: str) -> str:
    """One line, without what some models put around an answer: a fence, a name for it, or thoughts before it."""
    text = text.rpartition("</think>")[2].strip().removeprefix("```text").strip("`").strip()
    return " ".join(re.sub(r"^(rewritten )?prompt:\s*", "", text, flags=re.IGNORECASE).split())
