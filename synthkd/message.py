"""Messages: the only place that says what a turn of a conversation holds and how it is written as JSON.

Invariant: a message that is only text is written as `{"role", "content"}` and nothing else, whatever else messages can
hold, so that its calls keep their identity. A picture in a file counts by its bytes, not by its path.
"""

from __future__ import annotations

import base64
import mimetypes
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal, TypeAlias

import orjson

from synthkd.errors import RecordError

_MARK = re.compile(r"(\x02image:[0-9a-f]{16}\x03)")


@dataclass(frozen=True, slots=True)
class Image:
    """A picture in a message, and what a template may put where one goes: `{{ image }}`."""

    url: str
    """An `https://` address, a `data:` URL, or the path of a file."""
    detail: Literal["auto", "low", "high"] | None = None
    """How closely the teacher is to look; the provider's choice where it is left open."""

    @property
    def is_file(self) -> bool:
        """Whether the picture lies on this machine."""
        return not self.url.startswith(("http://", "https://", "data:"))

    def __str__(self) -> str:
        """The mark that stands for it in a rendered template, until the message is made of it."""
        return f"\x02image:{blake2b(self.url.encode(), digest_size=8).hexdigest()}\x03"


Content: TypeAlias = str | tuple[str | Image, ...]
"""What a turn says: a text, or texts and pictures in their order."""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation, in the shape that chat endpoints and TRL share."""

    role: Literal["system", "user", "assistant", "tool"]
    content: Content
    tool_calls: tuple[Mapping[str, Any], ...] = ()
    """What an assistant's turn calls, as OpenAI has it: `{"id", "type": "function", "function": {"name",
    "arguments"}}`, the arguments as JSON text."""
    tool_call_id: str | None = None
    """Which call a tool's turn answers."""
    name: str | None = None
    """The tool's name in a tool's turn, or who speaks where several play one role."""

    @property
    def text(self) -> str:
        """Its text, without pictures."""
        return self.content if isinstance(self.content, str) else "".join(p for p in self.content if isinstance(p, str))

    @property
    def images(self) -> tuple[Image, ...]:
        """Its pictures."""
        return () if isinstance(self.content, str) else tuple(p for p in self.content if isinstance(p, Image))


def with_images(text: str, fields: Mapping[str, Any]) -> Content:
    """A rendered text with the pictures among the variables in place of their marks; any other mark stays text."""
    if "\x02" not in text:
        return text
    known = {str(image): image for image in _images(fields.values())}
    parts = [known.get(part, part) for part in _MARK.split(text)]
    if not any(isinstance(part, Image) for part in parts):
        return text
    return tuple(part for part in parts if isinstance(part, Image) or part.strip())


def as_identity(value: Any) -> bytes:
    """JSON of messages for a call's key: files by the digest of their bytes."""
    return _json(value, _identity)


def as_kept(value: Any) -> bytes:
    """JSON of messages for people and for the journal: files by their path."""
    return _json(value, _kept)


def as_sent(value: Any) -> bytes:
    """JSON of anything that holds messages, for the wire: files as data URLs.

    Raises:
        RecordError: a picture's file cannot be read.
    """
    return _json(value, _sent)


def plain(message: Message, picture: Callable[[Image], str] = lambda image: image.url) -> dict[str, Any]:
    """A message as the dict that chat endpoints take; only what is set is in it."""
    found: dict[str, Any] = {"role": message.role, "content": message.content}
    if not isinstance(message.content, str):
        found["content"] = [_part(part, picture) for part in message.content]
    for name in ("tool_calls", "tool_call_id", "name"):
        if value := getattr(message, name):
            found[name] = value
    return found


def _json(value: Any, default: Callable[[Any], Any]) -> bytes:
    try:
        return orjson.dumps(value, default=default, option=orjson.OPT_PASSTHROUGH_DATACLASS)
    except orjson.JSONEncodeError as error:  # which hides what went wrong inside
        if isinstance(error.__cause__, RecordError):
            raise error.__cause__ from None
        raise


def _part(part: str | Image, picture: Callable[[Image], str]) -> dict[str, Any]:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    detail = {"detail": part.detail} if part.detail else {}
    return {"type": "image_url", "image_url": {"url": picture(part), **detail}}


def _identity(value: Any) -> Any:
    return plain(value, _digest)


def _kept(value: Any) -> Any:
    return plain(value)


def _sent(value: Any) -> Any:
    return plain(value, data_url)


def _digest(image: Image) -> str:
    return f"blake2b:{blake2b(_bytes(image), digest_size=16).hexdigest()}" if image.is_file else image.url


def _images(values: Iterable[Any]) -> Iterator[Image]:
    for value in values:
        if isinstance(value, Image):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from _images(value)


def data_url(image: Image) -> str:
    """The picture's address, with a file's bytes in it.

    Raises:
        RecordError: the file cannot be read.
    """
    if not image.is_file:
        return image.url
    kind = mimetypes.guess_type(image.url)[0] or "image/png"
    return f"data:{kind};base64,{base64.b64encode(_bytes(image)).decode()}"


def _bytes(image: Image) -> bytes:
    try:
        state = Path(image.url).stat()
        return _read(image.url, state.st_mtime_ns, state.st_size)
    except OSError as error:
        raise RecordError(
            f"the picture {image.url!r} cannot be read: {error.strerror}. Give the path of a file, or an https:// URL.",
            reason="unreadable picture",
        ) from None


@lru_cache(maxsize=32)
def _read(path: str, changed: int, size: int) -> bytes:
    """A file's bytes; those of the same picture are read once for its key and its call."""
    return Path(path).read_bytes()
