"""What is asked and what came back: the only place where sampling, requests and completions are defined.

Invariant: a request's key covers what the teacher sees and nothing else, so timeouts, retries, policies and code
may change without a call being paid for again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Generic, Literal, Protocol, TypeVar, runtime_checkable

import orjson
from pydantic import BaseModel

from synthkd.errors import ConfigError, RecordError
from synthkd.message import Message, as_identity
from synthkd.text import ADVICE, half_character

T = TypeVar("T")


_FLOATS = frozenset({"temperature", "top_p", "presence_penalty", "frequency_penalty"})
_BOUNDS = {"temperature": (0, math.inf), "top_p": (0, 1), "max_tokens": (1, math.inf), "logprobs": (0, math.inf)}


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a completion is drawn; `None` leaves the choice to the teacher's own default."""

    temperature: float | None = None
    """Softmax temperature; 0 is greedy."""
    top_p: float | None = None
    """Nucleus mass, 0 to 1."""
    max_tokens: int | None = None
    """Upper limit of new tokens, reasoning included."""
    stop: tuple[str, ...] = ()
    """Texts that end the reply; not part of it."""
    seed: int | None = None
    """Seed passed to the teacher, where it takes one."""
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logprobs: int | None = None
    """Number of alternatives per token whose log-probabilities come back; 0 gives the chosen token's only."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the request body that only some servers know, such as `top_k` or `chat_template_kwargs`."""
    _canonical: bytes | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name, (least, most) in _BOUNDS.items():
            value = getattr(self, name)
            if value is not None and not (isinstance(value, int | float) and least <= value <= most):
                above = f"at least {least}" if most == math.inf else f"between {least} and {most}"
                raise ConfigError(f"Sampling({name}={value!r}): expected a number, {above}")

    def over(self, default: Sampling) -> Sampling:
        """Fill what this one leaves open from `default`."""
        if default == _UNSET:
            return self
        if self == _UNSET:
            return default
        values = {name: getattr(self, name) for name in _SAMPLING}
        merged = {name: getattr(default, name) if value in (None, ()) else value for name, value in values.items()}
        merged["extra"] = {**default.extra, **self.extra}
        return Sampling(**merged)

    def given(self) -> dict[str, Any]:
        """Only what is set, as a plain dict: the part of it that counts towards a call's identity."""
        pairs = ((name, getattr(self, name)) for name in _SAMPLING)
        return {name: value for name, value in pairs if value not in (None, ()) and value != {}}

    def canonical(self) -> bytes:
        """`given` as JSON with sorted keys; made once, for it goes into the key of every call.

        Equal samplings give equal texts: `temperature=1` is written as 1.0, and -0.0 as 0.0. What stands in `extra` is
        taken as it is, for a server may tell 5 from 5.0.
        """
        if self._canonical is None:
            given = {name: _one_spelling(name, value) for name, value in self.given().items()}
            object.__setattr__(self, "_canonical", orjson.dumps(given, option=orjson.OPT_SORT_KEYS))
        assert self._canonical is not None
        return self._canonical


def _one_spelling(name: str, value: Any) -> Any:
    """A number of a sampling as every equal one is written."""
    if name in _FLOATS and isinstance(value, int | float):
        return float(value) + 0.0  # there is a -0.0
    whole = isinstance(value, bool) or (isinstance(value, float) and value.is_integer())
    return int(value) if whole else value


_SAMPLING = tuple(f.name for f in fields(Sampling) if f.init)
_UNSET = Sampling()


@dataclass(frozen=True, slots=True)
class Policy:
    """What becomes of replies that are not what was hoped for; no part of a call's identity."""

    truncated: Literal["reject", "keep", "extend"] = "reject"
    """A reply cut by `max_tokens`: reject the record, keep the cut text, or ask once more with twice the limit."""
    refused: Literal["reject", "keep"] = "reject"
    """A refusal: reject the record, or keep the refusal's text as the reply."""
    empty: Literal["reject", "keep"] = "reject"
    """A reply without text: reject the record, or keep the empty text."""
    repairs: int = 1
    """How many times an invalid typed reply is sent back with the validation error."""


@dataclass(frozen=True, slots=True)
class Request(Generic[T]):
    """What is asked of a teacher, and the type that its reply must have."""

    messages: tuple[Message, ...]
    reply: type[T]
    """`str`, or a Pydantic model."""
    sampling: Sampling = _UNSET
    policy: Policy = Policy()
    prompt: str = ""
    """Name and digest of the template it was rendered from (`labeling/answer@3f2a91c0`): provenance only."""
    tools: tuple[Mapping[str, Any], ...] = ()
    """What the teacher may call, as OpenAI has it: `{"type": "function", "function": {"name", "description",
    "parameters"}}`."""

    def key(self, teacher: str, index: int = 0) -> bytes:
        """Identity of one draw: 16 bytes over teacher identity, messages, reply schema, sampling and sample index."""
        return keys(teacher, self, (index,))[0]


def keys(teacher: str, request: Request[Any], indices: Sequence[int]) -> list[bytes]:
    """The keys of several draws of one request, hashing what they share once.

    Raises:
        RecordError: a message holds half of a character.
    """
    reply: Any = request.reply
    try:
        base = blake2b(as_identity((teacher, request.messages)), digest_size=16)
    except TypeError:
        if where := half_character([message.text for message in request.messages], "message"):
            raise RecordError(f"{where}, {ADVICE}.", reason="unreadable text") from None
        raise
    base.update(_schema_bytes(reply))
    if request.tools:
        base.update(orjson.dumps(request.tools, option=orjson.OPT_SORT_KEYS))
    base.update(request.sampling.canonical())
    found = []
    for index in indices:
        draw = base.copy()
        draw.update(b"#%d" % index)
        found.append(draw.digest())
    return found


def schema(reply: Any) -> dict[str, Any] | None:
    """JSON schema of a reply type without Pydantic's titles; `None` for plain text."""
    return None if reply is str else _schema(reply)


@lru_cache(maxsize=256)
def _schema_bytes(reply: Any) -> bytes:
    return orjson.dumps(schema(reply), option=orjson.OPT_SORT_KEYS)


@lru_cache(maxsize=256)
def _schema(reply: Any) -> dict[str, Any]:
    assert issubclass(reply, BaseModel)
    found: dict[str, Any] = _untitled(reply.model_json_schema())
    return found


def _untitled(node: Any) -> Any:
    if isinstance(node, dict):
        return {k: _untitled(v) for k, v in node.items() if not (k == "title" and isinstance(v, str))}
    if isinstance(node, list):
        return [_untitled(item) for item in node]
    return node


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one draw; a prompt that was billed once for `n` draws is counted with the first."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    """New tokens, reasoning included."""
    reasoning_tokens: int = 0
    cached_tokens: int = 0
    """Those of the prompt's tokens that the provider had in its cache."""


@dataclass(frozen=True, slots=True)
class Completion:
    """What a teacher gave back for one draw, as it came."""

    text: str
    reasoning: str | None = None
    """Thinking that the teacher kept apart from its answer."""
    finish_reason: str | None = None
    """`stop`, `length`, `content_filter`, `tool_calls`, or what the server says."""
    refusal: str | None = None
    """The refusal's text, where the provider reports one."""
    tool_calls: tuple[Mapping[str, Any], ...] = ()
    logprobs: tuple[Mapping[str, Any], ...] = ()
    """One entry a token: `token`, `logprob` (natural log), `top_logprobs`."""
    usage: Usage = Usage()
    model: str | None = None
    """The model that the server says has answered."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How hard an endpoint may be used; no part of a call's identity."""

    endpoint: str
    """What shares these limits: teachers with the same endpoint wait in the same line."""
    max_in_flight: int = 256
    """Calls on their way at the same time, at most."""
    adaptive: bool = True
    """Find out by what comes back how many calls at a time the endpoint takes; else always `max_in_flight`."""
    rpm: int | None = None
    """Calls per minute, spread evenly; None is no limit."""
    tpm: int | None = None
    """Tokens per minute, of prompts and completions."""
    tries: int = 8
    """Attempts per call before a transient failure becomes final."""
    longest_wait: float = 60.0
    """Upper limit, in seconds, of the jittered exponential pause between two tries."""


@dataclass(frozen=True, slots=True)
class Quota:
    """What an endpoint said was left of its own limits; a teacher that hears such things keeps the last as `quota`."""

    requests: int | None
    """Calls that are left; None where it did not say."""
    requests_reset: float
    """When that is renewed, as `time.monotonic()`."""
    tokens: int | None
    tokens_reset: float


@runtime_checkable
class Scorer(Protocol):
    """A teacher that also says how probable a given text is under its model."""

    async def score(self, messages: Sequence[Message], completion: str) -> list[float]:
        """The log-probability (natural) of each token of a completion after the messages, without an end-of-turn token.

        Raises:
            TeacherError, TeacherUnavailable: as for a completion.
        """
        ...


@runtime_checkable
class Teacher(Protocol):
    """Anything that completes requests. It raises `TeacherError` (one request) or `TeacherUnavailable` (all)."""

    @property
    def identity(self) -> str:
        """What makes its completions its own: provider or base URL, model, revision. Never a key."""
        ...

    @property
    def sampling(self) -> Sampling:
        """Defaults for what a request leaves open."""
        ...

    @property
    def limits(self) -> Limits:
        """How many calls it takes at a time, and how often a failed one is tried again."""
        ...

    @property
    def native_schema(self) -> bool:
        """Whether a reply's JSON schema is enforced by the teacher; else it is written into the prompt."""
        ...

    async def generate(self, request: Request[Any], n: int = 1) -> list[Completion]:
        """Draw `n` completions; a shorter list is allowed, and the rest is asked for again."""
        ...

    async def aclose(self) -> None:
        """Give back connections, processes and memory; the teacher may be used again afterwards."""
        ...
