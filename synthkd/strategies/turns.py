"""Turns: the only place that puts something into the messages of a request that a template did not put there.

Invariant: nothing of a template or a record is lost or reordered by what is put beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, TypeVar

from synthkd.message import Content, Message
from synthkd.prompt import Prompt
from synthkd.record import Prompted
from synthkd.request import Policy, Request, Sampling

T = TypeVar("T")

Place = Literal["system", "before", "after"]
"""Where a text is put: behind the system message, or before or behind the last user turn."""


_SEEN = {"images", "surrogate"}


def asked(prompt: Prompt[T], record: Prompted, sampling: Sampling, policy: Policy) -> Request[T]:
    """A template filled with a record, amid the rest of the record's conversation.

    A template has the text of the last user turn (`instruction`). The turns before and behind it and its pictures
    are put around what the template made of it, and the record's system message before the template's, unless the
    template takes the whole `prompt` itself. A template that takes `images`, or the `surrogate` that stands for them,
    says itself where they go.
    """
    request = prompt.fill(record, sampling=sampling, policy=policy)
    if isinstance(record.prompt, str) or "prompt" in prompt.variables:
        return request
    last = _last_user(record.prompt)
    if last is None:
        return request
    said = record.prompt[last]
    own, earlier = _without_system(record.prompt[:last])
    system, fixed = _without_system(request.messages[:-1])
    final = request.messages[-1]
    if said.images and not final.images and not _SEEN & set(prompt.variables):
        content: Content = said.content if final.text == said.text.strip() else (*said.images, final.text)
        final = replace(final, content=content)
    first = [Message("system", "\n\n".join(turn.text for turn in (*own, *system)))] if own or system else []
    messages = (*first, *fixed, *earlier, final, *record.prompt[last + 1 :])
    return replace(request, messages=messages)


def with_text(messages: Sequence[Message], text: str, at: Place) -> tuple[Message, ...]:
    """Messages with a text put behind the system message, or before or behind the last user turn."""
    turns = list(messages)
    if at == "system":
        if turns and turns[0].role == "system":
            turns[0] = replace(turns[0], content=_joined(turns[0], text, "after"))
        else:
            turns.insert(0, Message("system", text))
        return tuple(turns)
    last = _last_user(turns)
    if last is None:
        return (*turns, Message("user", text))
    turns[last] = replace(turns[last], content=_joined(turns[last], text, at))
    return tuple(turns)


def with_turns(messages: Sequence[Message], turns: Sequence[Message]) -> tuple[Message, ...]:
    """Messages with turns put before their first one that is no system message."""
    system, others = _without_system(messages)
    return (*system, *turns, *others)


def _joined(turn: Message, text: str, at: Place) -> Content:
    before = at == "before"
    if isinstance(turn.content, str):
        return f"{text}\n\n{turn.content}" if before else f"{turn.content}\n\n{text}"
    return (f"{text}\n\n", *turn.content) if before else (*turn.content, f"\n\n{text}")


def _last_user(messages: Sequence[Message]) -> int | None:
    return next((place for place in reversed(range(len(messages))) if messages[place].role == "user"), None)


def _without_system(messages: Sequence[Message]) -> tuple[Sequence[Message], Sequence[Message]]:
    """The system messages at the beginning, and the others."""
    count = next((place for place, turn in enumerate(messages) if turn.role != "system"), len(messages))
    return messages[:count], messages[count:]
