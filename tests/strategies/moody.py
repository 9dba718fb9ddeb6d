"""A teacher for every strategy: a `SchemaTeacher` that can do what any of them asks, and has moods.

What it says depends on the request and on the draw, never on when it is asked, so that two runs hear the same.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from random import Random
from typing import Any

from synthkd.errors import TeacherError, Transient
from synthkd.message import Message, as_identity
from synthkd.request import Completion, Request
from synthkd.testing import SchemaTeacher

MOODS = ("refusal", "filtered", "empty", "blank", "cut", "prose", "schema", "half", "fenced", "nested", "thought")
FAILURES = ("error", "transient")


class Moody(SchemaTeacher):
    """Answers like a `SchemaTeacher`, scores texts and tells log-probabilities; but not always as it should.

    Args:
        answers: as for `SchemaTeacher`.
        identity: as for `SchemaTeacher`.
        share: of draws that come to a mood, 0 to 1.
        failures: whether requests fail, too, for a moment or for good.
        pause: seconds that a reply may take, so that replies come in another order than they were asked for.
    """

    def __init__(
        self,
        answers: Mapping[Any, Any] | None = None,
        identity: str = "moody",
        share: float = 0.0,
        failures: bool = False,
        pause: float = 0.0,
    ) -> None:
        super().__init__(answers, identity)
        self.share = share
        self.failures = failures
        self.pause = pause
        self.scored = 0
        self.shown: set[str] = set()
        """The moods that it has had."""
        self._given: Counter[bytes] = Counter()
        self._tried: Counter[bytes] = Counter()

    async def generate(self, request: Request[Any], n: int = 1) -> list[Completion]:
        key = request.key(self.identity)
        await asyncio.sleep(self.pause * Random(key).random())
        self._fail(key)
        return [self._moody(request, key, one) for one in await super().generate(request, n)]

    async def score(self, messages: Sequence[Message], completion: str) -> list[float]:
        self.scored += 1
        key = as_identity((self.identity, messages, completion[:200], len(completion)))
        self._fail(key)
        rng = Random(key)
        return [-2 * rng.random() for _ in completion[:2000].split()]

    def _fail(self, key: bytes) -> None:
        rng = Random(b"failure" + key)
        self._tried[key] += 1
        if self.failures and rng.random() < self.share / 3:
            if rng.choice(FAILURES) == "error":
                raise TeacherError("400: no")
            if self._tried[key] < 2:
                raise Transient("503: not now")

    def _moody(self, request: Request[Any], key: bytes, good: Completion) -> Completion:
        number, self._given[key] = self._given[key], self._given[key] + 1
        rng = Random(b"mood" + key + str(number).encode())
        mood = rng.choice(MOODS) if rng.random() < self.share else ""
        self.shown |= {mood} - {""}
        text = good.text
        match mood:
            case "refusal":
                found = Completion("", finish_reason="stop", refusal="I cannot help with that.")
            case "filtered":
                found = Completion("", finish_reason="content_filter")
            case "cut":
                found = Completion(text[: len(text) // 2], finish_reason="length")
            case "thought":
                found = Completion(f"<think>\nso\n</think>\n\n{text}", finish_reason="stop")
            case _:
                said = {
                    "empty": "",
                    "blank": " \n\t\u200b"[: rng.randint(1, 4)],
                    "prose": "Certainly! [1] Here it is, as {asked}:",
                    "schema": '{"wrong": [1, 2], "items": 3, "score": "high"}',
                    "half": text[:-1] + "\ud800" + text[-1:],
                    "fenced": f"Here:\n```json\n{text}\n```\nDone.",
                    "nested": "[" * 5000 + "]" * 5000,
                }
                found = replace(good, text=said.get(mood, text))
        return found if request.sampling.logprobs is None else replace(found, logprobs=_told(found.text, rng))


def _told(text: str, rng: Random) -> tuple[dict[str, Any], ...]:
    """The tokens of a text with their likeliest others, among them such as judges and labels look for."""
    pieces = [text[start : start + 3] for start in range(0, min(len(text), 300), 3)] + (
        [text[300:]] if text[300:] else []
    )
    others = ["A", "B", "C", "Yes", "No", *"12345"]
    told = []
    for piece in pieces:
        shares = [rng.random() for _ in range(len(others) + 1)]
        tops = [{"token": token, "logprob": -share * 9} for token, share in zip([piece, *others], shares, strict=True)]
        told.append({"token": piece, "logprob": tops[0]["logprob"], "top_logprobs": tops})
    return tuple(told)
