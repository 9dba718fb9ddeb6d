"""Turns of a conversation in a dataset: the only place that knows how a message is written in a row and read from one.

A turn that is only text is `{"role", "content"}`. In a record with pictures every content is a list of parts, in TRL's
form: `{"type": "text", "text"}` and `{"type": "image"}`, and the pictures themselves lie in the column `images`, in
their order. A call's arguments are an object, as chat templates want them, and JSON text where they are no JSON object.

Invariant: what is written is read back as the same turns. Arguments come back as compact JSON, whatever their spaces.
"""

from __future__ import annotations

import base64
import json
import mimetypes
from collections.abc import Iterable, Iterator, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import orjson

from synthkd.data.sources import short
from synthkd.errors import DataError
from synthkd.message import Image, Message

COLUMNS = ("prompt", "completion", "chosen", "rejected", "messages")
"""The columns that may hold turns."""
IMAGES = "images"

_ROLES = {"human": "user", "gpt": "assistant"}  # ShareGPT's names
_PLAIN = {"role", "content"}
_MAGIC = ((b"\x89PNG", "image/png"), (b"\xff\xd8\xff", "image/jpeg"), (b"GIF8", "image/gif"), (b"RIFF", "image/webp"))


class Misshapen(Exception):
    """A row whose columns do not fit together; becomes a `DataError` that knows the place."""


def written(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Turns as a row holds them; only what is set is in them."""
    pictured = any(message.images for message in messages)
    return [_written(message, pictured) for message in messages]


def pictures(messages: Iterable[Message]) -> list[dict[str, Any]]:
    """The pictures of turns, as the column `images` holds them: a file's bytes, or an address that is left where it is.

    Raises:
        DataError: a file cannot be read.
    """
    return [_stored(image) for message in messages for image in message.images]


def is_plain(turn: Any) -> bool:
    """Whether a written turn is role and text alone."""
    return isinstance(turn, Mapping) and not turn.keys() - _PLAIN and isinstance(turn.get("content"), str)


def as_json(turn: Any) -> str | None:
    """A written turn as JSON text, the storage of the feature `Json` of `datasets`."""
    return turn if turn is None or isinstance(turn, str) else orjson.dumps(turn).decode()


def is_turns(value: Any) -> bool:
    """Whether a row's value is a conversation."""
    return (
        isinstance(value, Sequence)
        and not isinstance(value, str)
        and len(value) > 0
        and all(isinstance(turn, Mapping) and ("role" in turn or "from" in turn) for turn in value)
    )


def parsed(value: Any) -> Any:
    """Turns that a file holds as JSON text, as values; all else as it is."""
    if isinstance(value, list) and value and all(isinstance(one, str) and one[:1] == "{" for one in value):
        try:
            return [orjson.loads(one) for one in value]
        except orjson.JSONDecodeError:
            return value
    return value


def turns(value: Sequence[Mapping[str, Any]], column: str) -> list[dict[str, Any]]:
    """The turns of a row as a record takes them, from OpenAI's form or ShareGPT's (`from`, `value`).

    Where the row's pictures go, `content` holds `{"url": None}`; `placed` fills it.

    Raises:
        Misshapen: a turn has no content, or a part of another kind.
    """
    return [_turn(turn, number, column) for number, turn in enumerate(value, start=1)]


def placed(conversation: list[dict[str, Any]], images: Any) -> list[dict[str, Any]]:
    """Turns with the pictures of the column `images` in their places; without places, before the first user's text.

    Raises:
        Misshapen: there are more places than pictures, or fewer.
    """
    found = [] if images is None else images if isinstance(images, list | tuple) else [images]
    open_places = [part for part in _parts(conversation) if part["url"] is None]
    if found and not open_places:
        first = next((turn for turn in conversation if turn["role"] == "user"), None)
        if first is None:
            raise Misshapen(f"there are {len(found)} pictures and no user turn to put them into.")
        said = first["content"]
        open_places = [{"url": None} for _ in found]
        first["content"] = [*open_places, *([said] if isinstance(said, str) else said)]
    if len(open_places) != len(found):
        raise Misshapen(f'there are {len(open_places)} places for pictures and {len(found)} in "{IMAGES}".')
    for part, image in zip(open_places, found, strict=True):
        part["url"] = _address(image)
    return conversation


def _parts(conversation: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    for turn in conversation:
        if not isinstance(turn["content"], str):
            yield from (part for part in turn["content"] if isinstance(part, dict))


def _written(message: Message, pictured: bool) -> dict[str, Any]:
    content: Any = message.text
    if pictured:
        parts = (message.content,) if isinstance(message.content, str) else message.content
        content = [
            {"type": "text", "text": part}
            if isinstance(part, str)
            else {"type": "image", **({"detail": part.detail} if part.detail else {})}
            for part in parts
        ]
    turn: dict[str, Any] = {"role": message.role, "content": content}
    if message.tool_calls:
        turn["tool_calls"] = [_call(call, _as_object) for call in message.tool_calls]
    for name in ("tool_call_id", "name"):
        if (value := getattr(message, name)) is not None:
            turn[name] = value
    return turn


def _turn(turn: Mapping[str, Any], number: int, column: str) -> dict[str, Any]:
    said = turn.get("role", turn.get("from"))
    content = turn.get("content", turn.get("value"))
    calls = turn.get("tool_calls")
    if content is None and calls:
        content = ""  # an assistant turn that only calls a tool has no text
    if isinstance(content, list | tuple):
        parts = [_part(part, number, column) for part in content]
        texts = [part for part in parts if isinstance(part, str)]
        content = "".join(texts) if len(texts) == len(parts) else parts
    if not isinstance(content, str | list):
        raise Misshapen(f'turn {number} of "{column}" has the content {short(content)}; expected text.')
    found: dict[str, Any] = {"role": _ROLES.get(str(said), said), "content": content}
    if calls:
        found["tool_calls"] = [_call(call, _as_text) if isinstance(call, Mapping) else call for call in calls]
    found.update((name, turn[name]) for name in ("tool_call_id", "name") if turn.get(name) is not None)
    return found


def _part(part: Any, number: int, column: str) -> str | dict[str, Any]:
    """A text, or a picture; one whose address stands elsewhere has the `url` None."""
    if isinstance(part, str):
        return part
    kind = part.get("type") if isinstance(part, Mapping) else None
    if kind == "text" and isinstance(part.get("text"), str):
        return str(part["text"])
    detail = {"detail": part["detail"]} if kind and part.get("detail") else {}
    if kind == "image":
        own = next((part[name] for name in ("image", "url", "path") if part.get(name) is not None), None)
        return {"url": None if own is None else _address(own), **detail}
    if kind == "image_url":
        own = part["image_url"]
        url = own if isinstance(own, str) else own["url"]
        more = {"detail": own["detail"]} if isinstance(own, Mapping) and own.get("detail") else detail
        return {"url": url, **more}
    raise Misshapen(f'turn {number} of "{column}" has the part {short(part)}; expected text or an image.')


def _call(call: Mapping[str, Any], arguments: Any) -> dict[str, Any]:
    """A tool call, with its function's arguments in another form."""
    own = call.get("function")
    if not isinstance(own, Mapping) or "arguments" not in own:
        return dict(call)
    return {**call, "function": {**own, "arguments": arguments(own["arguments"])}}


def _as_object(arguments: Any) -> Any:
    """Arguments as an object, where their text is one that JSON can hold without loss."""
    if not isinstance(arguments, str):
        return arguments
    try:
        value = json.loads(arguments, object_pairs_hook=_unique)
        return value if isinstance(value, dict) and orjson.loads(orjson.dumps(value)) == value else arguments
    except (ValueError, TypeError, RecursionError):
        return arguments


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice")
    return found


def _as_text(arguments: Any) -> Any:
    return orjson.dumps(arguments).decode() if isinstance(arguments, Mapping) else arguments


def _stored(image: Image) -> dict[str, Any]:
    """A picture as the feature `Image` of `datasets` stores it; it loads an address when the row is used."""
    if image.url.startswith("data:"):
        from urllib.request import urlopen

        try:
            with urlopen(image.url) as opened:  # reads no network: the bytes stand in the address
                return {"bytes": opened.read(), "path": image.url.partition(",")[0]}
        except ValueError as error:
            raise DataError(f"the picture {short(image.url)} is no data URL: {error}.") from None
    if not image.is_file:
        return {"bytes": None, "path": image.url}
    try:
        return {"bytes": Path(image.url).read_bytes(), "path": image.url}
    except (OSError, ValueError) as error:
        raise DataError(
            f"the picture {image.url!r} cannot be read: {error}. Give the path of a file, or an https:// address."
        ) from None


def _address(image: Any) -> str:
    """Where a picture of a row is: an address, a path, or its bytes as a data URL."""
    if isinstance(image, str):
        return image
    if isinstance(image, Mapping):
        path, content = image.get("path"), image.get("bytes")
    elif isinstance(image, bytes):
        path, content = None, image
    elif hasattr(image, "save"):  # Pillow's
        buffer = BytesIO()
        image.save(buffer, "PNG")
        path, content = None, buffer.getvalue()
    else:
        path = content = None
    if content is None:
        if not isinstance(path, str):
            raise Misshapen(f"{short(image)} is no picture; expected an address, a path, or bytes.")
        return path
    if path and path.startswith("data:"):
        return f"{path},{base64.b64encode(content).decode()}"
    if path and _holds(path, content):
        return str(path)
    kind = next((kind for magic, kind in _MAGIC if content.startswith(magic)), None)
    kind = kind or mimetypes.guess_type(path or "")[0] or "image/png"
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _holds(path: str, content: bytes) -> bool:
    """Whether a file is still there and the same; a dataset may have travelled."""
    try:
        return Path(path).read_bytes() == content
    except (OSError, ValueError):
        return False
