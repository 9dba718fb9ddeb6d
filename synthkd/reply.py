"""Replies: the only place where a completion's text becomes the typed value that was asked for.

The road: reasoning is taken apart from the answer, fences and chatter around JSON are dropped, Pydantic validates (of
several values the last fenced one that is valid, else the last one); what is broken only locally (quotes, commas) is
mended by json-repair and validated again. Invariant: a reply that was cut is never completed. Text that ends inside a
value, or a finish reason `length`, is `Truncated`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar, cast

import json_repair
import orjson
from pydantic import BaseModel, ValidationError

from synthkd.errors import EmptyReply, ParseError, Refused, Truncated
from synthkd.message import Message
from synthkd.request import Completion, Request, schema

T = TypeVar("T")

_THINK = re.compile(r"\A\s*+(?:<think>)?+(.*?)</think>\s*", re.DOTALL)
_OPEN_THINK = re.compile(r"\A\s*+<think>(.*)\Z", re.DOTALL)
_FENCE = re.compile(r"```[a-zA-Z]*[ \t]*\n(.*?)(?:\n[ \t]*```|\Z)", re.DOTALL)
_DAMAGE = re.compile(r"""("(?:[^"\\]|\\.)*+"?)|'((?:[^'\\]|\\.)*+)'?|\b(True|False|None)\b|,(?=\s*+[}\]])""", re.DOTALL)
_QUOTES = re.compile(r'\\.|"', re.DOTALL)
_NO_WORD = re.compile(r"\\[nrtbf\\]|[^\w\\]+|\\")
_WORDS = {"True": "true", "False": "false", "None": "null"}
_REPAIRABLE = 8000
"""Characters of a damaged text that json-repair is given: its time grows with their square, on the run's loop."""
_PAIRS = {"{": "}", "[": "]"}
_OPENING = re.compile(r"[{\[]")
_JSON_LIKE = re.compile(r"""\{\s*+(?:["'}]|\w+\s*+:|\Z)|\[\s*+(?:[\[{"'\]\d-]|\w++\s*+[,\]]|\Z)""")
"""How an object or an array begins; a bracket in prose does not begin so."""
_BRACKETS = 8
"""Brackets in prose that are passed over; the search behind each of them may go on to the end of the text."""
_MOST = 32
"""Values of a text that are tried."""


@dataclass(frozen=True, slots=True)
class Reply(Generic[T]):
    """A typed reply with what stood around it."""

    value: T
    text: str
    """The answer's text without the reasoning."""
    reasoning: str | None = None
    """The teacher's thinking, where it gave any."""
    completion: Completion = Completion("")
    """What came back, as the journal has it."""


def separate(completion: Completion) -> Completion:
    """Take `<think>...</think>` out of the text and into `reasoning`; a text without it is returned as it is.

    A thinking block that never ends leaves no answer: its text becomes reasoning and the answer is empty.
    """
    text = completion.text
    if "think>" not in text:
        return completion
    if found := _THINK.match(text):
        thought, answer = found[1], text[found.end() :]
    elif found := _OPEN_THINK.match(text):
        thought, answer = found[1], ""
    else:
        return completion
    parts = [part for part in (completion.reasoning, thought.strip()) if part]
    return replace(completion, text=answer, reasoning="\n\n".join(parts) or None)


def parse(completion: Completion, request: Request[T]) -> Reply[T]:
    """Turn a completion into the reply that was asked for.

    Raises:
        Refused: the provider reports a refusal or filtered the content.
        Truncated: the reply was cut by the token limit or ends inside a value (policy `keep` lets plain text pass).
        EmptyReply: there is no text.
        ParseError: the text does not satisfy the model; its message is what a repair turn quotes.
    """
    completion = separate(completion)
    policy, text = request.policy, completion.text
    if (completion.refusal or completion.finish_reason == "content_filter") and policy.refused == "reject":
        raise Refused(f"the teacher declined: {(completion.refusal or text or 'content filter')[:200]!r}")
    if completion.refusal and not text:
        text = completion.refusal
    cut = completion.finish_reason == "length"
    if cut and (policy.truncated != "keep" or request.reply is not str):
        tokens = completion.usage.completion_tokens
        raise Truncated(
            f"the reply was cut by the token limit after {tokens or 'its'} tokens; raise Sampling.max_tokens"
        )
    if not text.strip() and completion.tool_calls and request.reply is str:
        return Reply(cast(T, ""), "", completion.reasoning, completion)
    if not text.strip() and (policy.empty == "reject" or request.reply is not str):
        raise EmptyReply("the teacher answered with an empty text")
    value = cast(T, text.strip()) if request.reply is str else structured(text, request.reply)
    return Reply(value, text.strip(), completion.reasoning, completion)


def structured(text: str, model: type[T]) -> T:
    """Read a JSON reply into a Pydantic model, mending local damage but never a cut.

    Raises:
        Truncated: the text ends inside a value.
        ParseError: nothing in it satisfies the model.
    """
    assert issubclass(model, BaseModel)
    try:
        return cast(T, model.model_validate_json(text))
    except ValidationError:
        pass
    found, cut = _candidates(text)
    failures: list[tuple[int, Exception]] = []
    for read in (model.model_validate_json, lambda body: _validated(body, model)):  # what needs no mending goes first
        for body in found:
            try:
                return cast(T, read(body))
            except (ValidationError, ParseError, RecursionError) as error:
                failures.append((len(body), error))
    if cut:
        raise Truncated("the reply ends inside a JSON value: it was cut; raise Sampling.max_tokens")
    if failures:  # of the longest, for what is short may be no more than prose in brackets
        mended = failures[len(found) :]
        raise ParseError(_explained(max(mended, key=lambda failure: failure[0])[1])) from None
    raise ParseError("the reply holds no JSON object")


def _candidates(text: str) -> tuple[list[str], bool]:
    """The JSON values of a text, those to be tried first before the others, and whether the text ends inside of one.

    What is fenced goes before what is not, and the last before the first: drafts come before the answer. Nothing counts
    that stands before a value which was cut, for the answer would have been that one.
    """
    fences = [(match.start(1), match[1]) for match in _FENCE.finditer(text)]
    fenced = [(start + place, body, ended) for start, block in fences for place, body, ended in _values(block)]
    plain = list(_values(text))
    cut = max((place for place, _, ended in (*fenced, *plain) if not ended), default=-1)
    ordered = [one for kind in (fenced, plain) for one in reversed(kind)][:_MOST]
    ordered.sort(key=lambda one: len(one[1]) == 2)  # an empty value says least
    nothing_else = not ordered and _OPENING.search(text) is not None
    return [body for place, body, ended in ordered if ended and place > cut], cut >= 0 or nothing_else


def _validated(body: str, model: type[BaseModel]) -> Any:
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        if error.errors(include_url=False)[0]["type"] != "json_invalid":
            raise
    return model.model_validate_json(json.dumps(_mended(body)))  # by the same rules as a reply that was whole


def _mended(body: str) -> Any:
    """The value in a locally damaged text.

    Bare line breaks in strings, trailing commas and Python's spelling are mended without a guess. Only what that does
    not make JSON is left to json-repair, whose guess counts as long as it has lost no word: a quote too many in a text
    makes it drop the rest of the text.

    Raises:
        ParseError: words would be lost.
    """
    try:
        return json.loads(_DAMAGE.sub(_as_json, body), strict=False)
    except ValueError as error:
        if len(body) > _REPAIRABLE:
            raise ParseError(f"the reply is no valid JSON: {error}") from None
        guess = json_repair.loads(body)
        if _NO_WORD.sub("", json.dumps(guess, ensure_ascii=False)) != _NO_WORD.sub("", body):
            raise ParseError(f"the reply is no valid JSON: {error}") from None
        return guess


def _as_json(found: re.Match[str]) -> str:
    whole, single, word = found.groups()
    if single is not None:
        return '"' + _QUOTES.sub(lambda quote: {"\\'": "'", '"': '\\"'}.get(quote[0], quote[0]), single) + '"'
    return whole or _WORDS.get(word, "")


def _values(text: str) -> Iterator[tuple[int, str, bool]]:
    """The JSON objects and arrays of a text, one after the other: where each begins, itself, and whether it ends.

    One that does not end is the last, unless it is no more than a bracket in prose.
    """
    prose = 0
    opening = _OPENING.search(text)
    while opening is not None:
        start = opening.start()
        end = _end(text, start)
        if end is None and not _JSON_LIKE.match(text, start) and prose < _BRACKETS:
            prose += 1
            opening = _OPENING.search(text, start + 1)
            continue
        yield start, text[start:end], end is not None
        opening = None if end is None else _OPENING.search(text, end)


def _end(text: str, start: int) -> int | None:
    """Where the object or array ends that begins at a place; None where it was cut.

    A quote opens a string only after `{ [ : ,` and closes one only before `, : } ]` or the end, so a stray quote inside
    a string does not hide where the value ends.
    """
    stack: list[str] = []
    quote = ""
    before = ""
    i = start
    while i < len(text):
        char = text[i]
        if quote:
            if char == "\\":
                i += 1
            elif char == quote and _next(text, i + 1) in ",:}]":
                quote = ""
        elif char in "\"'" and before in "{[:,":
            quote = char
        elif char in _PAIRS:
            stack.append(_PAIRS[char])
        elif char in "}]":
            if stack and stack[-1] == char:
                stack.pop()
            if not stack:
                return i + 1
        if not char.isspace() and not quote:
            before = char
        i += 1
    return None


def _next(text: str, i: int) -> str:
    """The next character that is no white space; the end of the text counts as a comma's equal (it closes)."""
    while i < len(text) and text[i].isspace():
        i += 1
    return text[i] if i < len(text) else ","


def _explained(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "the reply is nested too deeply"
    if not isinstance(error, ValidationError):
        return str(error)
    lines = []
    for problem in error.errors(include_url=False)[:5]:
        place = ".".join(str(part) for part in problem["loc"]) or "the reply"
        lines.append(f"{place}: {problem['msg']} (got {str(problem['input'])[:80]!r})")
    return "; ".join(lines)


def schema_text(model: Any) -> str:
    """The reply's JSON schema as the compact text that a prompt carries."""
    return orjson.dumps(schema(model)).decode()


def with_schema(request: Request[T]) -> Request[T]:
    """The same request with its reply's schema written at the end of the last user turn."""
    if request.reply is str:
        return request
    ask = "\n\nReply with one JSON object and nothing else. It must follow this JSON schema:\n" + schema_text(
        request.reply
    )
    messages = list(request.messages)
    for i in reversed(range(len(messages))):
        if messages[i].role == "user":
            said = messages[i].content
            messages[i] = replace(messages[i], content=said + ask if isinstance(said, str) else (*said, ask))
            break
    return replace(request, messages=tuple(messages))


def repair_turn(request: Request[T], text: str, error: ParseError) -> Request[T]:
    """The request that sends an invalid reply back with the validation error: another request, with another key."""
    said = Message("assistant", text)
    asked = Message(
        "user",
        f"That reply cannot be used: {error}\nReply again with the corrected JSON object and nothing else.",
    )
    return replace(request, messages=(*request.messages, said, asked))
