"""Distributions: the strategy that keeps what a teacher held likely at each place of its answer, beside what it chose.

Invariant: the tokens of a distribution are those of its completion, without the teacher's thinking before it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import Any

from synthkd.ask import Ask
from synthkd.errors import ConfigError, RecordError
from synthkd.prompt import Prompt
from synthkd.record import Distribution, Instruction
from synthkd.request import Policy, Sampling


@dataclass(frozen=True)
class TopK:
    """One answer to each instruction with the teacher's `k` likeliest tokens at each of its places.

    A teacher that tells no log-probabilities is a `ConfigError`. Where tokens and answer cannot be matched, as when a
    server shows pieces of a character as a replacement sign behind a thinking block, the record is rejected ("tokens
    differ").

    Args:
        k: how many; OpenAI tells up to 20, and vLLM as many as its `--max-logprobs`.

    Reference: Hinton et al. 2015, Distilling the Knowledge in a Neural Network, arXiv:1503.02531.
    """

    k: int = 20
    prompt: Prompt[str] = field(default_factory=lambda: Prompt("labeling/answer", str))
    sampling: Sampling = Sampling()
    policy: Policy = Policy()
    role: str = "teacher"

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ConfigError(f"TopK(k={self.k}): at least one token a place is needed")

    def check(self, record: Instruction) -> None:
        """Refuse a template that wants what the record does not have."""
        self.prompt.check(record)

    async def __call__(self, record: Instruction, ask: Ask) -> Sequence[Distribution]:
        sampling = replace(self.sampling, logprobs=self.k)
        reply = await ask.reply(self.prompt.fill(record, sampling=sampling, policy=self.policy), self.role)
        told = reply.completion.logprobs
        if not told or not all(place.get("top_logprobs") for place in told):
            raise ConfigError(
                f"the teacher of the role {self.role!r} tells no likeliest tokens; TopK needs a server that returns "
                "`top_logprobs`, or a LocalTeacher"
            )
        places = _spelling(told, reply.value, reply.reasoning is None)
        best = [sorted(place["top_logprobs"], key=lambda one: -one["logprob"])[: self.k] for place in places]
        return [
            Distribution(
                parents=(record.id,),
                prompt=record.prompt,
                completion=reply.value,
                tokens=tuple(place["token"] for place in places),
                top_tokens=tuple(tuple(one["token"] for one in place) for place in best),
                top_logprobs=tuple(tuple(one["logprob"] for one in place) for place in best),
                meta=record.carried(),
            )
        ]


def _spelling(told: Sequence[Mapping[str, Any]], text: str, alone: bool) -> Sequence[Mapping[str, Any]]:
    """The places that spell a text: thinking stands before it, and what ends a turn behind it.

    Raises:
        RecordError: none do, and what is told is not of this text alone.
    """
    spelled = [bytes(place.get("bytes") or place["token"].encode(errors="surrogatepass")) for place in told]
    begin = b"".join(spelled).rfind(wanted := text.encode(errors="surrogatepass"))
    if begin >= 0:
        ends = list(accumulate(map(len, spelled)))
        return [
            place
            for place, piece, end in zip(told, spelled, ends, strict=True)
            if end > begin and end - len(piece) < begin + len(wanted)
        ]
    if alone:  # a token that is a piece of a character is shown as a replacement sign
        return told
    raise RecordError("the answer is not what its tokens spell", reason="tokens differ")
