"""Choices among labels: the only place where the probabilities of label tokens are read.

Invariant: the probabilities of a choice sum to one over its labels. A server that gives no log-probabilities is a
`ConfigError`, never a choice that looks certain.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, Literal

from pydantic import BaseModel, Field, create_model

from synthkd.errors import ConfigError, TeacherError
from synthkd.request import Completion, Sampling
from synthkd.strategies.feedback.question import Question

_AROUND = " \t\r\n\u2581\u0120\u010a()[]{}<>\"'`*_.,:;"
"""What tokens carry around a label: blanks as tokenizers spell them, brackets, quotes, marks of emphasis."""
_MOST = 20
"""Alternatives that OpenAI's and vLLM's servers give at most."""
_CURE = "Choose a server that gives `logprobs` (OpenAI's chat models, vLLM, transformers), or pass soft=False."


def with_logprobs(sampling: Sampling) -> Sampling:
    """The same sampling, of one token with its alternatives, unless it says otherwise."""
    alternatives = _MOST if sampling.logprobs is None else sampling.logprobs
    return replace(sampling, max_tokens=sampling.max_tokens or 1, logprobs=alternatives)


async def chosen(question: Question, labels: tuple[str, ...], *, soft: bool, **fields: Any) -> dict[str, float] | None:
    """The share of each label in a judge's choice; `None` where the judge chose none of them.

    Args:
        question: what is asked; its prompt says what the labels stand for.
        labels: short texts, of which no tokenizer should make more than one token where `soft`.
        soft: read the probabilities of the first token; else the choice is a typed reply, and one label has it all.
        fields: further values for the prompt.

    Raises:
        ConfigError: the server gives no log-probabilities.
    """
    if not soft:
        found = await question.heard(_choice(labels), labels=labels, soft=False, **fields)
        said = [reply.value.choice for reply in found]  # type: ignore[attr-defined]
        return {label: float(label == said[0]) for label in labels} if said else None
    kept = replace(question, policy=replace(question.policy, truncated="keep", empty="keep"))
    try:
        replies = await kept.heard(str, labels=labels, soft=True, **fields)
    except TeacherError as error:
        if "logprobs" in str(error):
            raise ConfigError(f"the judge's server refuses to give log-probabilities: {error} {_CURE}") from None
        raise
    if not replies:
        return None
    shares = probabilities(replies[0].completion, labels)
    if shares is None:
        question.ask.dropped["verdict without a label"] += 1
    return shares


def probabilities(completion: Completion, labels: Sequence[str]) -> dict[str, float] | None:
    """The probability of each label at the first token that says something, normalised over the labels.

    Spellings of one label (`A`, ` A`, `(A`) count together. A label that is not among the alternatives gets no more
    than the least of them has, and no more than what they leave over.

    Returns:
        `None` where no label is among the alternatives.

    Raises:
        ConfigError: the completion has text and no log-probabilities.
    """
    if not completion.logprobs:
        if not completion.text.strip():
            return None
        raise ConfigError(f"the judge's server gave no log-probabilities with its reply. {_CURE}")
    entry = next((one for one in completion.logprobs if _bare(one["token"])), completion.logprobs[0])
    alternatives = [(_bare(one["token"]), _probability(one)) for one in entry.get("top_logprobs") or (entry,)]
    masses = {
        label: sum(mass for token, mass in alternatives if token == label)
        for label in labels
        if any(token == label for token, _ in alternatives)
    }
    if not any(masses.values()):
        return None
    listed = [mass for _, mass in alternatives]
    unseen = min(*listed, max(0.0, 1.0 - sum(listed)))
    shares = {label: masses.get(label, unseen) for label in labels}
    total = sum(shares.values())
    return {label: mass / total for label, mass in shares.items()}


def _bare(token: str) -> str:
    return token.strip(_AROUND)


def _probability(alternative: Mapping[str, Any]) -> float:
    value = alternative.get("logprob")
    return math.exp(min(value, 0.0)) if isinstance(value, int | float) and not math.isnan(value) else 0.0


@lru_cache(maxsize=256)
def _choice(labels: tuple[str, ...]) -> type[BaseModel]:
    one: Any = Literal[labels]
    return create_model("Choice", choice=(one, Field(description="The label of what you choose.")))
