"""A request in a local model's terms: the only place that applies its chat template and reads its generation settings.

Invariant: what a model cannot do is refused and never left out in silence.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from synthkd.errors import ConfigError, TeacherError
from synthkd.message import Message, plain
from synthkd.request import Sampling
from synthkd.teachers.local.choosing import Plan
from synthkd.teachers.local.loading import Loaded

_EXTRA = ("top_k", "repetition_penalty", "chat_template_kwargs")


def prompt_text(loaded: Loaded, turns: Sequence[Message], options: dict[str, Any]) -> str:
    """The messages as the text that the model goes on from; a last assistant turn is continued.

    Raises:
        TeacherError: the chat template refuses them.
    """
    from jinja2 import TemplateError

    if any(turn.images for turn in turns):
        raise TeacherError(f"{loaded.name} was loaded as a model of text, and the messages hold a picture")
    goes_on = bool(turns) and turns[-1].role == "assistant"
    try:
        return str(
            loaded.tokenizer.apply_chat_template(
                [_turn(turn) for turn in turns],
                tokenize=False,
                add_generation_prompt=not goes_on,
                continue_final_message=goes_on,
                **options,
            )
        )
    except (TemplateError, ValueError, TypeError, IndexError) as error:
        raise TeacherError(f"the chat template of {loaded.name} refuses the messages: {error}") from error


def _turn(turn: Message) -> dict[str, Any]:
    """A turn as chat templates take it: the arguments of tool calls as objects."""
    found = plain(turn)
    for call in (calls := [dict(call) for call in turn.tool_calls]):
        function = dict(call.get("function") or {})
        if isinstance(function.get("arguments"), str):
            function["arguments"] = orjson.loads(function["arguments"] or "{}")
        call["function"] = function
    return found | ({"tool_calls": calls} if calls else {})


def plan(loaded: Loaded, sampling: Sampling) -> Plan:
    """How to draw what a request asks for, filled from the model's own generation settings.

    Raises:
        ConfigError: the sampling holds something that a local model cannot do.
    """
    own, extra = loaded.settings, sampling.extra
    unknown = sorted(set(extra) - set(_EXTRA))
    if unknown:
        raise ConfigError(
            f"LocalTeacher cannot do {', '.join(unknown)}; of a sampling's extra it knows {', '.join(_EXTRA)}"
        )
    heat = sampling.temperature
    if heat is None:
        heat = (1.0 if own.temperature is None else own.temperature) if own.do_sample else 0.0
    if heat < 0 or (sampling.max_tokens or 1) < 1:
        raise ConfigError(f"temperature={heat}, max_tokens={sampling.max_tokens}: expected at least 0 and at least 1")
    return Plan(
        temperature=heat,
        max_tokens=sampling.max_tokens or 512,
        top_p=own.top_p or 1.0 if sampling.top_p is None else sampling.top_p,
        top_k=extra.get("top_k", own.top_k) or 0,
        repetition_penalty=extra.get("repetition_penalty", own.repetition_penalty) or 1.0,
        presence_penalty=sampling.presence_penalty or 0.0,
        frequency_penalty=sampling.frequency_penalty or 0.0,
        stop=sampling.stop,
        alternatives=sampling.logprobs,
    )
