"""The lines of a batch's files: the only place that writes a request as one and reads an answer from one.

Invariant: a line's id comes from the keys of the draws it asks for and from nothing else, so that another process that
owes the same draws finds the line again, whatever order a file has and wherever its answer stands.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final

import orjson

from synthkd.errors import Transient
from synthkd.message import as_sent
from synthkd.request import Completion, Request
from synthkd.teachers.wire import completions_in, loads

if TYPE_CHECKING:
    import asyncio

PATH: Final = "/v1/chat/completions"

Body = Callable[[Request[Any], int], dict[str, Any]]
"""The JSON body of a call for n choices."""
Refusal = Callable[[int, dict[str, str], bytes], Exception]
"""The error for a status, headers and body."""


@dataclass(slots=True, eq=False)
class Line:
    """One request on its way; it stands in one gathering or one batch at a time."""

    id: str
    request: Request[Any]
    n: int
    """Choices that are asked for. One line for all of them, because the prompt is then billed once."""
    size: int = 0
    """Bytes of it in a file."""
    callers: list[asyncio.Future[list[Completion]]] = field(default_factory=list)
    """Who waits for the answer."""
    rounds: int = 0
    """Batches that ended without an answer to it."""
    seen: set[str] = field(default_factory=set)
    """Batches whose files were read for it, in vain."""
    said: str = "no answer"
    """What the last of them had in its place."""

    @property
    def wanted(self) -> bool:
        """Whether anybody still waits for it."""
        return any(not caller.done() for caller in self.callers)

    def encoded(self, body: Body) -> bytes:
        """Itself in an input file."""
        call = {"custom_id": self.id, "method": "POST", "url": PATH, "body": body(self.request, self.n)}
        return as_sent(call) + b"\n"


def line_id(keys: Sequence[bytes]) -> str:
    """The id of the line that asks for the draws with these keys: 32 hex digits."""
    return blake2b(b"".join(keys), digest_size=16).hexdigest()


def short(custom_id: str) -> int:
    """An id as 64 bits, for remembering which batch holds what; -1 for one that synthkd did not make."""
    try:
        return int(custom_id[:16], 16)
    except ValueError:
        return -1


def id_in(line: bytes) -> str:
    """The id that a line of any file carries; empty for what is no line."""
    try:
        return str(loads(line)["custom_id"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""


def answer_in(line: bytes, refusal: Refusal) -> tuple[str, list[Completion] | Exception]:
    """The id of an output or error line, and the completions or the error in it.

    `Transient` stands for everything that another batch may cure: an overloaded server, an expired or cancelled
    request, an answer that is none.
    """
    custom_id = ""
    try:
        found = loads(line)
        custom_id = str(found["custom_id"])
        response = found.get("response")
        if not response:
            error = found.get("error") or {}
            return custom_id, Transient(f"{error.get('code')}: {error.get('message')}")
        status, body = int(response["status_code"]), response["body"]
        if status != 200:
            return custom_id, refusal(status, {}, orjson.dumps(body))
        return custom_id, completions_in(body)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
        return custom_id, Transient(f"a line that holds no chat completion ({error!r})")
