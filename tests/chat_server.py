"""A real HTTP server in a thread that speaks the chat-completions protocol; what it answers is a function of the request."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Stub:
    """The server: its address, and the requests it has seen (body, and headers in lower case)."""

    url: str = ""
    seen: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    most: int = 0  # requests under way at once


@contextmanager
def serving(answer: Callable[[dict[str, Any]], str | tuple[int, str]], finish: str = "stop") -> Iterator[Stub]:
    """Serve `answer(body)`: words, or (status, message) for an error."""
    stub, lock, busy = Stub(), threading.Lock(), [0]

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            with lock:
                stub.seen.append({"path": self.path, **body})
                stub.headers.append({name.lower(): value for name, value in self.headers.items()})
                busy[0] += 1
                stub.most = max(stub.most, busy[0])
            said = answer(body)
            with lock:
                busy[0] -= 1
            if isinstance(said, tuple):
                self._send(said[0], {"error": {"message": said[1], "type": "stub", "code": said[0]}})
                return
            choice = {"index": 0, "message": {"role": "assistant", "content": said}, "finish_reason": finish}
            made = {"id": "stub-1", "object": "chat.completion", "created": 1, "model": body["model"], "choices": [choice]}
            self._send(200, {**made, "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}})

        def _send(self, status: int, value: dict[str, Any]) -> None:
            data = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    stub.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    try:
        yield stub
    finally:
        server.shutdown()
        server.server_close()
