"""Parts of the chat completions format that single calls and batches share: choices, usage, waiting times, schemas."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Any

import orjson

from synthkd.request import Completion, Quota, Usage, schema


def loads(content: bytes) -> Any:
    """The JSON of a body, with what some servers send though JSON or UTF-8 has no place for it.

    Half an emoji (a lone surrogate) becomes U+FFFD; NaN and Infinity become None.

    Raises:
        ValueError, RecursionError: it is no JSON.
    """
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError:
        text = json.dumps(json.loads(content, parse_constant=lambda _: None), ensure_ascii=False)
        return orjson.loads(text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))


def completions_in(body: dict[str, Any]) -> list[Completion]:
    """The completions of a chat completion body, usage shared out among them.

    Raises:
        ValueError, KeyError, TypeError, IndexError, AttributeError: the body is none.
    """
    choices = body["choices"]
    if not choices:
        raise ValueError("no choices")
    usage = body.get("usage") or {}
    model = body.get("model")
    if len(choices) == 1:
        return [_completion(choices[0], _usage(usage, 0, 1), model)]
    ordered = sorted(choices, key=lambda choice: choice.get("index", 0))
    return [_completion(choice, _usage(usage, i, len(ordered)), model) for i, choice in enumerate(ordered)]


def _completion(choice: dict[str, Any], usage: Usage, model: str | None) -> Completion:
    message = choice["message"]
    if choice.get("finish_reason") == "error":  # some gateways wrap an upstream failure into a 200
        raise ValueError("finish reason: error")
    content = message.get("content")
    if isinstance(content, list):  # some servers answer in parts
        content = "".join(part.get("text", "") for part in content)
    if not isinstance(content, str | None):
        raise TypeError(f"the content is a {type(content).__name__}")
    logprobs = choice.get("logprobs")
    return Completion(
        text=content or "",
        # vLLM moved `reasoning_content` to `reasoning`; servers differ.
        reasoning=_string(message.get("reasoning_content")) or _string(message.get("reasoning")),
        finish_reason=_string(choice.get("finish_reason")),
        refusal=message.get("refusal"),
        tool_calls=tuple(message.get("tool_calls") or ()),
        logprobs=tuple(logprobs.get("content") or ()) if logprobs else (),
        usage=usage,
        model=model,
    )


def _string(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _usage(usage: dict[str, Any], place: int, of: int) -> Usage:
    """The share of one choice; the prompt was billed once and is counted with the first."""
    details = usage.get("completion_tokens_details") or {}
    cached = usage.get("prompt_tokens_details") or {}
    first = place == 0
    return Usage(
        prompt_tokens=(usage.get("prompt_tokens") or 0) if first else 0,
        completion_tokens=_share(usage.get("completion_tokens") or 0, place, of),
        reasoning_tokens=_share(details.get("reasoning_tokens") or 0, place, of),
        cached_tokens=(cached.get("cached_tokens") or 0) if first else 0,
    )


def _share(total: int, place: int, of: int) -> int:
    return total // of + (place < total % of)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds of silence that an answer asks for (`retry-after-ms`, `retry-after` in seconds or as a date), or None."""
    try:
        if milliseconds := headers.get("retry-after-ms"):
            seconds = float(milliseconds) / 1000
        elif after := headers.get("retry-after"):
            seconds = float(after) if after[0].isdigit() else parsedate_to_datetime(after).timestamp() - time.time()
        else:
            return None
    except (ValueError, TypeError, OverflowError):
        return None
    return max(0.0, seconds) if math.isfinite(seconds) else None


_SPAN = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?")
_SPAN_SECONDS = (86400.0, 3600.0, 60.0, 1.0, 0.001)
_EPOCH = 1e9
"""A number so large is no span but a date in seconds since 1970, or a thousand times as large in milliseconds."""


def quota_in(headers: Mapping[str, str]) -> Quota | None:
    """What `x-ratelimit-remaining-*` and `x-ratelimit-reset-*` say is left and until when; None if they do not."""
    if "x-ratelimit-remaining-requests" not in headers and "x-ratelimit-remaining-tokens" not in headers:
        return None
    requests, requests_reset = _left(headers, "requests")
    tokens, tokens_reset = _left(headers, "tokens")
    return None if requests is None and tokens is None else Quota(requests, requests_reset, tokens, tokens_reset)


def _left(headers: Mapping[str, str], of: str) -> tuple[int | None, float]:
    left, reset = headers.get(f"x-ratelimit-remaining-{of}", ""), _span(headers.get(f"x-ratelimit-reset-{of}", ""))
    if reset is None or not left.strip().isdecimal():
        return None, 0.0  # of no use without the other
    return int(left), time.monotonic() + reset


def _span(text: str) -> float | None:
    """Seconds of `6m0s`, `1.5s`, `120ms`, a bare number of seconds, or a date since 1970."""
    text = text.strip().lower()
    try:
        number = float(text)
    except ValueError:
        found = _SPAN.fullmatch(text)
        if found is None or not text:
            return None
        return sum(float(part or 0) * worth for part, worth in zip(found.groups(), _SPAN_SECONDS, strict=True))
    if number >= _EPOCH:
        number = (number / 1000 if number >= 1000 * _EPOCH else number) - time.time()
    return max(number, 0.0) if math.isfinite(number) else None


def strict_schema(reply: Any) -> tuple[dict[str, Any], bool]:
    """A reply's schema closed against further fields, and whether it satisfies what OpenAI calls strict."""
    return _strict_schema(reply)


@lru_cache(maxsize=256)
def _strict_schema(reply: Any) -> tuple[dict[str, Any], bool]:
    closed = True

    def close(node: Any) -> Any:
        nonlocal closed
        if isinstance(node, list):
            return [close(item) for item in node]
        if not isinstance(node, dict):
            return node
        node = {name: close(value) for name, value in node.items()}
        if node.get("type") == "object":
            properties = node.get("properties")
            if (
                properties is None
                or node.get("additionalProperties")
                or set(properties) - set(node.get("required", ()))
            ):
                closed = False  # free-form or optional fields: the server may still use it, but not strictly
            else:
                node["additionalProperties"] = False
        return node

    return close(schema(reply)), closed
