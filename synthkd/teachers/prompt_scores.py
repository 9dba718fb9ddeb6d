"""Scores of a given text from a chat endpoint: the only place that reads vLLM's `prompt_logprobs`.

A server tells the log-probabilities of a whole prompt, and not where its template ends: so it is asked twice, with the
completion and without, and what both have in common at their beginning is the prompt's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import takewhile
from typing import Any

from synthkd.message import Message

NO_SCORES = (
    "Scores of given texts need a server that returns `prompt_logprobs` of chat completions, such as vLLM, or a "
    "LocalTeacher."
)
"""What to do where they are not given."""


def continued(messages: Sequence[Message], completion: str) -> tuple[Message, ...]:
    """The messages with the completion as the assistant's; a last assistant turn goes on."""
    if not messages or messages[-1].role != "assistant":
        return (*messages, Message("assistant", completion))
    return (*messages[:-1], replace(messages[-1], content=messages[-1].text + completion))


def prompt_logprobs_for(messages: Sequence[Message]) -> dict[str, Any]:
    """Fields of the request body that make vLLM tell the log-probability of each token of the prompt."""
    goes_on = bool(messages) and messages[-1].role == "assistant"
    return {"prompt_logprobs": 0, "add_generation_prompt": not goes_on, "continue_final_message": goes_on}


def prompt_tokens_in(body: dict[str, Any]) -> list[tuple[str, float]] | None:
    """The number of each token of the prompt but the first, which follows nothing, with its log-probability.

    None where the body has none.

    Raises:
        ValueError, TypeError, KeyError, AttributeError, IndexError: they are in no form that is known.
    """
    told = body.get("prompt_logprobs")
    if told is None:
        return None
    found = []
    for place in told[1:]:
        number, token = next(iter(place.items()))  # the token itself stands before likelier ones
        found.append((str(number), float(token["logprob"])))
    return found


def scores_after(given: Sequence[tuple[str, float]], whole: Sequence[tuple[str, float]]) -> list[float]:
    """The log-probabilities of what follows the part that both have in common."""
    pairs = zip(given, whole, strict=False)
    common = sum(1 for _ in takewhile(lambda pair: pair[0][0] == pair[1][0], pairs))
    return [logprob for _, logprob in whole[common:]]
