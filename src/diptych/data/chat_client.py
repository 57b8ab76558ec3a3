"""Asking a language model behind an OpenAI-compatible server (vLLM, SGLang, llama.cpp, a vendor's), each answer kept on disk.

Captions, rewritten prompts and a judge's words all come through `ask`. Answers are appended to a JSON-lines file as they arrive
and are looked up there first, so a run that is killed, or whose server goes away, goes on where it stopped.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diptych.files import StoreError

if TYPE_CHECKING:
    from openai import OpenAI

Message = Mapping[str, Any]
"""{"role": "system" | "user" | "assistant", "content": words, or parts from `text_part` and `image_part`}."""


class ServerError(RuntimeError):
    """The server cannot be reached or failed for good; answers that had arrived are kept."""


@dataclass(frozen=True)
class Server:
    """A model behind a server, and how it answers.

    Args:
        url: base address, with its version: "http://localhost:8000/v1".
        model: the name it is served under.
        temperature, top_p, max_tokens, seed: of the answer; None leaves a field to the server.
        extra: further fields of the request, such as {"top_k": 20} or {"chat_template_kwargs": {"enable_thinking": False}}.
        key_variable: environment variable that holds the API key; servers of one's own need none.
        at_once: requests in flight.
        attempts: of a request that meets a broken connection, a full or a failing server (waits of 0.5 to 8 s between them).
        seconds: that one answer may take.

    Raises:
        ValueError: an address that is none, or numbers out of range.
    """

    url: str = field(metadata={"fingerprint": False})
    model: str
    temperature: float | None = 0.0
    top_p: float | None = None
    max_tokens: int | None = 1024
    seed: int | None = 0
    extra: Mapping[str, Any] = field(default_factory=dict)
    key_variable: str = field(default="OPENAI_API_KEY", metadata={"fingerprint": False})
    at_once: int = field(default=16, metadata={"fingerprint": False})
    attempts: int = field(default=4, metadata={"fingerprint": False})
    seconds: float = field(default=600.0, metadata={"fingerprint": False})

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")):
            raise ValueError(f"server {self.url!r}: give its base address, such as http://localhost:8000/v1")
        if not self.model:
            raise ValueError(f"server {self.url}: which model? give the name it is served under")
        if self.at_once < 1 or self.attempts < 1 or not self.seconds > 0:
            raise ValueError(f"server {self.url}: at_once, attempts and seconds must be positive")

    @property
    def options(self) -> dict[str, Any]:
        """What an answer depends on beside the question; where the model is served is not part of it."""
        given = {name: getattr(self, name) for name in ("temperature", "top_p", "max_tokens", "seed")}
        return {"model": self.model, **{name: value for name, value in given.items() if value is not None}, **self.extra}


@dataclass(frozen=True)
class Question:
    """What is asked, and the name its answer is kept under.

    Args:
        key: unique among the questions of one file of answers.
        messages: makes the conversation; called only where the answer is not on disk, in another thread.
    """

    key: str
    messages: Callable[[], Sequence[Message]]


@dataclass(frozen=True)
class Answer:
    """What came back.

    Args:
        key: the question's.
        text: the model's words, stripped; empty where `refused`.
        finish: "stop", "length" where it was cut off, or what else the server says.
        refused: why the server would not take this question (too long, a picture it cannot read); not kept, so asked again.
        kept: whether it was on disk already.
    """

    key: str
    text: str
    finish: str = "stop"
    refused: str = ""
    kept: bool = False


def text_part(words: str) -> dict[str, Any]:
    """A piece of a message that is words."""
    return {"type": "text", "text": words}


def image_part(data: bytes) -> dict[str, Any]:
    """A piece of a message that is a picture: the bytes of a PNG, JPEG or WebP file."""
    kinds = {b"\x89PNG": "png", b"\xff\xd8\xff": "jpeg", b"RIFF": "webp"}
    kind = next((name for start, name in kinds.items() if data.startswith(start)), None)
    if kind is None:
        raise ValueError("chat: a picture is neither PNG, JPEG nor WebP; convert it first")
    return {"type": "image_url", "image_url": {"url": f"data:image/{kind};base64,{base64.b64encode(data).decode()}"}}


def content_key(*parts: str | bytes) -> str:
    """32 hexadecimal digits of some words and bytes, for `Question.key`."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()


class AnswerFile:
    """Answers on disk, one JSON line each: {"key", "options", "text", "finish"}, under the options of the model that gave them.

    Args:
        path: made if missing; a last line that a kill cut off is dropped.

    Raises:
        ValueError: another line that is no answer.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._held: dict[tuple[str, str], tuple[str, str]] = {}
        data = path.read_bytes() if path.exists() else b""
        whole = data.rfind(b"\n") + 1
        for number, line in enumerate(data[:whole].splitlines(), 1):
            try:
                row = json.loads(line)
                self._held[row["key"], _words(row["options"])] = (row["text"], row["finish"])
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(f"{path}, line {number}: is no kept answer ({error}); move the file away") from None
        if whole < len(data):
            os.truncate(path, whole)

    def get(self, key: str, options: Mapping[str, Any]) -> Answer | None:
        """The answer kept for a question under these options."""
        found = self._held.get((key, _words(options)))
        return found and Answer(key, *found, kept=True)

    def put(self, answer: Answer, options: Mapping[str, Any]) -> None:
        """Append an answer; it is on its way to the disk when this returns.

        Raises:
            StoreError: the file cannot be written.
        """
        row = {"key": answer.key, "options": dict(options), "text": answer.text, "finish": answer.finish}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab") as file:
                file.write((json.dumps(row) + "\n").encode())
        except OSError as error:
            raise StoreError(
                f"cannot write {self.path} ({error.strerror}); mend that and run the same command again"
            ) from error
        self._held[answer.key, _words(options)] = (answer.text, answer.finish)


def ask(server: Server, questions: Iterable[Question], answers: AnswerFile) -> Iterator[Answer]:
    """Answers to all questions, as they arrive: kept ones at once, the others with `at_once` requests in flight.

    Questions are drawn only as fast as they are answered, so there may be millions.

    Raises:
        ServerError: the server is not there, or fails at every attempt.
        ValueError: it does not know the key or the model, or the package is missing.
        StoreError: the file of answers cannot be written.
    """
    client: OpenAI | None = None
    options = server.options
    pool = ThreadPoolExecutor(server.at_once, thread_name_prefix="ask")
    flying: set[Future[Answer]] = set()
    try:
        for question in questions:
            kept = answers.get(question.key, options)
            if kept is not None:
                yield kept
                continue
            client = client or _client(server)
            flying.add(pool.submit(_one, client, server, question))
            if len(flying) >= server.at_once:
                yield from _landed(flying, answers, options)
        while flying:
            yield from _landed(flying, answers, options)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        if client is not None:
            client.close()


def _landed(flying: set[Future[Answer]], answers: AnswerFile, options: Mapping[str, Any]) -> list[Answer]:
    """Wait for the next answers and keep them all, those beside a failure too, before the failure is raised."""
    done = wait(flying, return_when=FIRST_COMPLETED).done
    flying -= done
    failed = [future for future in done if future.exception() is not None]
    if failed:  # what is under way may still arrive: it is paid for
        late = wait(flying).done
        flying -= late
        done |= late
    landed = [future.result() for future in done if future.exception() is None]
    for answer in landed:
        if not answer.refused:
            answers.put(answer, options)
    if failed:
        failed[0].result()
    return landed


def _client(server: Server) -> OpenAI:
    try:
        from openai import OpenAI
    except ImportError:
        raise ValueError('chat: asking a server needs a client; pip install "diptych[judges]"') from None
    key = os.environ.get(server.key_variable) or "none"
    return OpenAI(base_url=server.url, api_key=key, timeout=server.seconds, max_retries=server.attempts - 1)


def _one(client: OpenAI, server: Server, question: Question) -> Answer:
    import openai

    named = {name: value for name, value in server.options.items() if name not in server.extra}
    try:
        made = client.chat.completions.create(messages=list(question.messages()), extra_body=dict(server.extra), **named)  # type: ignore[call-overload]
    except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
        raise ValueError(
            f"server {server.url}: does not take the key of {server.key_variable} ({_said(error)}); set the variable"
        ) from None
    except openai.NotFoundError as error:
        raise ValueError(
            f"server {server.url}: knows no model {server.model!r} there ({_said(error)}); see {server.url}/models"
        ) from None
    except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
        return Answer(question.key, "", "refused", _said(error) or "refused")
    except openai.APIError as error:
        if getattr(error, "status_code", None) == 413:
            return Answer(question.key, "", "refused", _said(error) or "too large")
        raise ServerError(
            f"server {server.url}: no answer after {server.attempts} attempts ({_said(error)}); "
            "what was answered is kept: see that it runs and give the same command again"
        ) from error
    if not made.choices:
        raise ServerError(f"server {server.url}: sent an answer without choices; what was answered is kept")
    choice = made.choices[0]
    return Answer(question.key, (choice.message.content or "").strip(), choice.finish_reason or "stop")


def _said(error: Exception) -> str:
    """The server's own words, in one line."""
    return " ".join(str(error).split())[:200]


def _words(options: Mapping[str, Any]) -> str:
    return json.dumps(options, sort_keys=True)
