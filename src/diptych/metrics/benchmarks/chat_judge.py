"""A vision-language model behind a server as judge: yes-or-no questions, marks by rubric, transcripts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from diptych.data.chat_client import AnswerFile, Message, Question, Server, ask, content_key, image_part, text_part
from diptych.metrics.benchmarks.prism import PASSES, mark
from diptych.metrics.benchmarks.rubrics import Rubrics
from diptych.metrics.benchmarks.t2i import Answer, Malformed, Prompt, Task

ROUNDS = 3
WARMER = 0.7  # temperature of a second and third try: the same words at 0 would get the same reply


@dataclass(frozen=True)
class Asking:
    """How a benchmark is asked of a vision-language model.

    Args:
        fields: what is asked about a picture, `fields(rubrics, prompt) -> [(name, words)]`.
        usable: whether a reply can be scored.
        made: the answer out of the replies by name.
    """

    fields: Callable[[Rubrics, Prompt], Sequence[tuple[str, str]]]
    usable: Callable[[str], bool]
    made: Callable[[dict[str, str]], dict[str, Any]]


def _questions(rubrics: Rubrics, prompt: Prompt) -> list[tuple[str, str]]:
    return [(str(one.number), rubrics.question.replace("{question}", one.words)) for one in prompt.detail.questions]


def _rubrics(rubrics: Rubrics, prompt: Prompt) -> list[tuple[str, str]]:
    texts = (rubrics.alignment[prompt.group], rubrics.aesthetic)
    return [(name, text.replace("{text_prompt}", prompt.text)) for name, text in zip(PASSES, texts, strict=True)]


def _reading(rubrics: Rubrics, prompt: Prompt) -> list[tuple[str, str]]:
    return [("text", rubrics.transcribe)]


def yes_or_no(reply: str) -> str:
    """ "yes" or "no" where the reply begins with it, else the reply."""
    first = reply.strip().lower().split()[:1]
    word = first[0].strip(".,!:;\"'*") if first else ""
    return word if word in ("yes", "no") else reply


def _has_mark(reply: str) -> bool:
    try:
        mark(reply, "fixed")
    except Malformed:
        return False
    return True


def _lines(replies: dict[str, str]) -> dict[str, Any]:
    if "text" not in replies:
        return {}
    said = replies["text"].strip()
    return {"lines": [] if said.rstrip(".").lower() == "no text recognized" else said.splitlines()}


ASKING: dict[str, Asking] = {
    "dpg": Asking(
        _questions,
        lambda reply: yes_or_no(reply) in ("yes", "no"),
        lambda replies: {"answers": {number: yes_or_no(reply) for number, reply in replies.items()}},
    ),
    "prism": Asking(_rubrics, _has_mark, dict),
    "cvtg": Asking(_reading, lambda reply: True, _lines),
    "longtext": Asking(_reading, lambda reply: True, dict),
}
"""Benchmarks that a vision-language model can judge."""


@dataclass
class _Open:
    """A task whose replies are not all there."""

    task: Task
    left: int
    replies: dict[str, str]


@dataclass(frozen=True)
class ChatJudge:
    """Asks about every picture what its benchmark asks; a reply that cannot be used is asked for again, twice.

    Args:
        benchmark: a key of `ASKING`. server: the model.
        file: replies by what the picture and the words are, JSON lines, appended to.
        rubrics: the words.
    """

    benchmark: str
    server: Server
    file: Path = field(metadata={"fingerprint": False})
    rubrics: Rubrics = field(default_factory=Rubrics)

    def __post_init__(self) -> None:
        if self.benchmark not in ASKING:
            raise ValueError(f"{self.benchmark}: a language model cannot judge it; it can judge {', '.join(ASKING)}")

    def __call__(self, tasks: Iterable[Task]) -> Iterator[tuple[Task, Answer]]:
        asking, replies = ASKING[self.benchmark], AnswerFile(self.file)
        waiting: dict[str, list[tuple[_Open, str]]] = {}
        settled: dict[str, str] = {}
        whole: list[_Open] = []
        again: list[Question] = []

        def asked() -> Iterator[Question]:
            for task in tasks:
                data = task.load()
                fields = asking.fields(self.rubrics, task.prompt)
                state = _Open(task, len(fields), {})
                for name, words in fields:
                    key = content_key(data, words)
                    if key in settled:
                        give(state, name, settled[key])
                    elif key in waiting:
                        waiting[key].append((state, name))
                    else:
                        waiting[key] = [(state, name)]
                        yield Question(key, partial(_messages, task, words))

        def give(state: _Open, name: str, reply: str | None) -> None:
            state.left -= 1
            if reply is not None:
                state.replies[name] = reply
            if not state.left:
                whole.append(state)

        questions: Iterable[Question] = asked()
        messages: dict[str, Question] = {}

        def noted(source: Iterable[Question]) -> Iterator[Question]:
            for question in source:
                messages[question.key] = question
                yield question

        for turn in range(ROUNDS):
            server = self.server if turn == 0 else replace(self.server, temperature=WARMER, seed=(self.server.seed or 0) + turn)
            for answer in ask(server, noted(questions), replies):
                question = messages.pop(answer.key)
                if not answer.refused and not asking.usable(answer.text) and turn < ROUNDS - 1:
                    again.append(question)
                    continue
                if not answer.refused:
                    settled[answer.key] = answer.text
                for state, name in waiting.pop(answer.key):
                    give(state, name, None if answer.refused else answer.text)
                while whole:
                    state = whole.pop()
                    yield state.task, asking.made(state.replies)
            questions, again = again, []
        while whole:
            state = whole.pop()
            yield state.task, asking.made(state.replies)


def _messages(task: Task, words: str) -> list[Message]:
    return [{"role": "user", "content": [image_part(task.load()), text_part(words)]}]
