"""Teacher specifications: the only place where a text on the command line becomes a teacher.

openai:MODEL            OpenAI's endpoint, or the one in OPENAI_BASE_URL
openai:MODEL@URL        any OpenAI-compatible server
openai-batch:MODEL[@URL]
                        the same through the provider's batch API: half the price, within a day
local:PATH_OR_ID        a transformers model on this machine
vllm:MODEL[?NAME=VALUE&...]
                        a model on this machine's GPUs, served by vLLM; options such as tensor_parallel=2
tiny                    the small model that ships with synthkd, for trying and testing
SPEC,SPEC,...           the same model on several endpoints, as a pool
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qsl

from synthkd.errors import UnknownTeacher
from synthkd.request import Teacher
from synthkd.teachers import FORMS

_MEMBERS = re.compile(r",\s*(?=(?:openai|openai-batch|local):)")
"""What stands between the members of a pool; any other comma is part of a name or a URL."""


def _value(text: str) -> int | float | bool | str:
    """An option's value as Python has it."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        with suppress(ValueError):
            return kind(text)
    return text


def teacher_from(spec: str) -> Teacher:
    """The teacher that a specification names.

    Raises:
        UnknownTeacher: the text has none of the known forms.
    """
    members = _MEMBERS.split(spec)
    if len(members) > 1:
        from synthkd.teachers.pool import TeacherPool

        return TeacherPool([teacher_from(member) for member in members])
    kind, _, rest = spec.partition(":")
    if spec == "tiny":
        from synthkd.teachers.tiny import TinyTeacher

        return TinyTeacher()
    if kind in ("openai", "openai-batch") and rest:
        from synthkd.teachers.openai import OpenAITeacher

        model, url = re.fullmatch(r"(.+?)(?:@(https?://.+))?", rest).groups()  # type: ignore[union-attr]
        if url is None and re.search(r"@.*(://|localhost|:\d+(/|\Z))", rest):
            raise UnknownTeacher(f"{kind}:{rest.partition('@')[0]}@...: the URL must begin with http:// or https://")
        return OpenAITeacher(model, base_url=url, batch=kind == "openai-batch")
    if kind == "local" and rest:
        from synthkd.teachers.local import LocalTeacher

        return LocalTeacher(rest)
    if kind == "vllm" and rest:
        from synthkd.teachers.vllm import VLLMTeacher

        model, _, text = rest.partition("?")
        options: dict[str, Any] = {name: _value(value) for name, value in parse_qsl(text, keep_blank_values=True)}
        return VLLMTeacher(model, **options)
    shown = spec.partition("@")[0]  # what follows may hold a password
    raise UnknownTeacher(f"{shown!r} names no teacher; expected one of: {FORMS}")
