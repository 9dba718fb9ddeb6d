"""Public fakes: teachers for tests, made of a function or of the reply's schema. All else in a test is best real."""

from __future__ import annotations

import inspect
import math
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from random import Random
from typing import Any

import orjson
from pydantic import BaseModel

from synthkd.prices import Price
from synthkd.request import Completion, Limits, Request, Sampling, schema


class FunctionTeacher:
    """A teacher that answers with what a function returns, and counts its calls.

    Args:
        answer: `(request) -> str | Completion`, or an async function of the same; it may raise synthkd's errors.
        identity: under which its completions are journaled.
        native_schema: whether a reply's schema is left out of the prompt.
        most: how many choices it gives per call, as some servers ignore `n`.
        price: of its tokens; unknown by default.
    """

    def __init__(
        self,
        answer: Callable[[Request[Any]], str | Completion | Awaitable[str | Completion]],
        identity: str = "function",
        *,
        native_schema: bool = True,
        sampling: Sampling | None = None,
        limits: Limits | None = None,
        most: int | None = None,
        price: Price | None = None,
    ) -> None:
        self._answer = answer
        self.identity = identity
        self.native_schema = native_schema
        self.sampling = sampling or Sampling()
        self.limits = limits or Limits(endpoint=identity, adaptive=False, longest_wait=0.05)
        self.most = most
        self.price = price
        self.calls: list[Request[Any]] = []
        """Every request it was asked, in order."""

    async def generate(self, request: Request[Any], n: int = 1) -> list[Completion]:
        """Ask the function once for each draw."""
        self.calls.append(request)
        found = []
        for _ in range(min(n, self.most or n)):
            answer = self._answer(request)
            if inspect.isawaitable(answer):
                answer = await answer
            found.append(Completion(answer, finish_reason="stop") if isinstance(answer, str) else answer)
        return found

    async def aclose(self) -> None:
        """Nothing to give back."""


class SchemaTeacher(FunctionTeacher):
    """A teacher that answers whatever it is asked with something of the right form, the same to the same request.

    A typed reply is made from its JSON schema: bounds, choices and lengths are kept; texts are plain words. A
    reply in plain text is a few such words. What depends on the request's words is a digest of them, so that different
    prompts get different replies.

    Args:
        answers: a reply type, or a prompt's name such as `labeling/answer`, and the function of the request that
            answers it: with a text, an instance of the type, or a whole completion.
        identity: under which its completions are journaled.
    """

    def __init__(
        self,
        answers: Mapping[type | str, Callable[[Request[Any]], str | Completion | BaseModel]] | None = None,
        identity: str = "schema",
        **more: Any,
    ) -> None:
        self._answers = dict(answers or {})
        self._draws: Counter[bytes] = Counter()
        super().__init__(self._by_schema, identity, **more)

    def _by_schema(self, request: Request[Any]) -> str | Completion:
        own = self._answers.get(request.prompt.partition("@")[0]) or self._answers.get(request.reply)
        if own is not None:
            reply = own(request)
            return reply.model_dump_json() if isinstance(reply, BaseModel) else reply
        key = request.key(self.identity)
        number, self._draws[key] = self._draws[key], self._draws[key] + 1
        rng = Random(key + str(number).encode())
        form = schema(request.reply)
        if form is None:
            return _words(rng, 8)
        return orjson.dumps(_example(form, form.get("$defs", {}), rng)).decode()


_TEXT = """
amber basil cedar delta ember fjord grove harbor island juniper kernel lantern meadow nectar orchard pebble quartz
river saddle timber umber valley willow yonder zephyr anchor bridge copper dune engine forest garden hollow inlet
"""
_WORDS = tuple(_TEXT.split())


def _words(rng: Random, count: int) -> str:
    return " ".join(rng.choice(_WORDS) for _ in range(count))


def _example(form: Mapping[str, Any], defs: Mapping[str, Any], rng: Random) -> Any:
    """A value of a JSON schema as Pydantic writes it."""
    if "$ref" in form:
        return _example(defs[form["$ref"].rpartition("/")[2]], defs, rng)
    if "const" in form:
        return form["const"]
    if "enum" in form:
        return rng.choice(form["enum"])
    for union in ("anyOf", "oneOf", "allOf"):
        if union in form:
            return _example(rng.choice(form[union]), defs, rng)
    match form.get("type"):
        case "object" if "properties" in form:
            return {name: _example(inner, defs, rng) for name, inner in form["properties"].items()}
        case "object":
            return {_words(rng, 1): _example(form.get("additionalProperties") or {}, defs, rng)}
        case "array" if "prefixItems" in form:
            return [_example(inner, defs, rng) for inner in form["prefixItems"]]
        case "array":
            least = form.get("minItems", 2)
            count = rng.randint(least, max(least, form.get("maxItems", least + 2)))
            return [_example(form.get("items") or {}, defs, rng) for _ in range(count)]
        case "integer" | "number":
            return _number(form, rng)
        case "boolean":
            return rng.random() < 0.5
        case "null":
            return None
    text = _words(rng, 4)
    while len(text) < form.get("minLength", 0):
        text += " " + _words(rng, 4)
    return text[: form.get("maxLength")]


def _number(form: Mapping[str, Any], rng: Random) -> int | float:
    whole = form["type"] == "integer"
    beyond = 1 if whole else 0
    low = form["exclusiveMinimum"] + beyond if "exclusiveMinimum" in form else form.get("minimum")
    high = form["exclusiveMaximum"] - beyond if "exclusiveMaximum" in form else form.get("maximum")
    if low is None:
        low = high - 9 if high is not None else 0
    if high is None:
        high = low + 9
    return rng.randint(math.ceil(low), math.floor(high)) if whole else low + (high - low) * rng.uniform(0.1, 0.9)
