"""A teacher's likeliest tokens as a record: the only place that reads them out of a completion.

Invariant: the tokens of a distribution begin where its completion begins; what was thought before it is left out.
"""

from __future__ import annotations

from itertools import accumulate

from synthkd.errors import RecordError
from synthkd.record import Distribution, Prompted
from synthkd.request import Completion


def distribution(record: Prompted, completion: Completion) -> Distribution:
    """A completion that was drawn with `Sampling(logprobs=k)`, with the k likeliest tokens at each of its places.

    Args:
        record: what was answered.
        completion: `(await ask.reply(request)).completion`.

    Raises:
        RecordError: the server told no log-probabilities, or of other tokens than the text's ("no log-probabilities").

    Reference: Hinton et al. 2015, Distilling the Knowledge in a Neural Network, arXiv:1503.02531.
    """
    told, text = completion.logprobs, completion.text
    tokens = [str(place["token"]) for place in told]
    whole = "".join(tokens)
    begin = whole.find(text)
    starts = list(accumulate(map(len, tokens), initial=0))
    if not told or begin not in starts:
        said = f"of tokens that spell {whole[:80]!r}" if told else "of no token"
        raise RecordError(
            f"the teacher told log-probabilities {said}, and its text is {text[:80]!r}", reason="no log-probabilities"
        )
    first = starts.index(begin)
    tops = [[(str(o["token"]), float(o["logprob"])) for o in place.get("top_logprobs") or [place]] for place in told]
    tops = [sorted(top, key=lambda one: -one[1]) for top in tops]
    return Distribution(
        parents=(record.id,),
        prompt=record.prompt,
        completion=text,
        tokens=tuple(tokens[first:]),
        top_tokens=tuple(tuple(token for token, _ in top) for top in tops[first:]),
        top_logprobs=tuple(tuple(value for _, value in top) for top in tops[first:]),
        meta=record.carried(),
    )
