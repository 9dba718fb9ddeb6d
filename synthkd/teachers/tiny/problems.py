"""The only place that makes the tiny teacher's grade-school word problems, and that reads one back.

Everything is drawn from the seed, and a problem's split follows from a hash of its question alone: no question can
stand in both ``train`` and ``test``, whatever the seeds.
"""

import hashlib
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Final, Literal

from synthkd.teachers.tiny.stories import BOXES, DAYS, FOODS, NAMES, PLACES, STORIES, THINGS

__all__ = ["Problem", "Split", "generate", "problems", "read", "split_of"]

Split = Literal["train", "test"]

TEST_SHARE: Final = 0.1
"""The share of all questions that belongs to the test split."""
LARGEST: Final = 200
"""No number and no result is larger."""
LARGEST_PRODUCT: Final = 150
"""No product and no dividend is larger."""

_CHOICE: Final = re.compile(r"\[([^]]*)\]")
_SLOT: Final = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, slots=True)
class Problem:
    """A word problem with its steps."""

    question: str
    """The story and what it asks."""
    steps: tuple[str, ...]
    """One calculation each, such as ``12 + 5 = 17``."""
    answer: int
    """The result of the last step."""

    @property
    def working(self) -> str:
        """The steps as text: ``12 + 5 = 17. 17 * 3 = 51.``"""
        return " ".join(f"{step}." for step in self.steps)

    @property
    def solution(self) -> str:
        """The steps and the answer: ``12 + 5 = 17. 17 * 3 = 51. The answer is 51.``"""
        return f"{self.working} The answer is {self.answer}."


def split_of(question: str) -> Split:
    """The split that a question belongs to, by a hash of its text."""
    number = int.from_bytes(hashlib.sha256(question.encode()).digest()[:4])
    return "test" if number < TEST_SHARE * 2**32 else "train"


def problems(rng: random.Random, split: Split = "train") -> Iterator[Problem]:
    """Problems of a split without end, drawn with ``rng``; the same one may come twice."""
    while True:
        text, formula = rng.choice(STORIES)
        solved = None
        while solved is None:
            numbers = _numbers(formula, rng)
            solved = _solve(formula, numbers)
        question = _tell(text, numbers, rng)
        if split_of(question) == split:
            yield Problem(question, *solved)


def generate(n: int, seed: int, split: Split = "train") -> list[Problem]:
    """``n`` different problems of a split; equal arguments give equal lists."""
    found: dict[str, Problem] = {}
    for problem in problems(random.Random(f"{seed}/{split}"), split):
        if len(found) >= n:
            break
        found.setdefault(problem.question, problem)
    return list(found.values())


def read(question: str) -> Problem | None:
    """The problem behind a question, with its steps; None when the question is not a sound one of this domain.

    It takes any problem that ``generate`` could write, also with numbers somewhat out of its range, but not one whose
    story goes below zero, divides unevenly or mixes its words up.
    """
    for pattern, formula in _patterns():
        if match := pattern.fullmatch(question.strip()):
            groups = match.groupdict()
            if (name := groups.get("n")) and (name == groups.get("m") or not _pronouns_fit(groups)):
                return None
            if (box := groups.get("box")) and groups.get("boxes") not in (None, BOXES[box]):
                return None
            numbers = {letter: int(groups[letter]) for letter in "abcd" if groups.get(letter)}
            solved = _solve(formula, numbers, slack=5)
            return Problem(question.strip(), *solved) if solved else None
    return None


def _pronouns_fit(groups: dict[str, str | None]) -> bool:
    words = zip(("he", "his", "him"), NAMES[str(groups["n"])], strict=True)
    return all((said := groups.get(slot)) is None or said.lower() == word for slot, word in words)


def _numbers(formula: str, rng: random.Random) -> dict[str, int]:
    numbers: dict[str, int] = {}
    for step in formula.split(","):
        left, sign, right = tuple(step)
        for letter, first in ((left, True), (right, False)):
            if letter in "xy" or letter in numbers:
                continue
            if sign == "*":
                numbers[letter] = rng.randint(3, 25) if first else rng.randint(2, 9)
            elif sign == "/":
                numbers[letter] = rng.randint(10, LARGEST_PRODUCT) if first else rng.randint(2, 9)
            else:
                numbers[letter] = rng.randint(8, 99) if first else rng.randint(2, 60)
    return numbers


def _solve(formula: str, numbers: dict[str, int], slack: int = 1) -> tuple[tuple[str, ...], int] | None:
    """The steps and the answer, or None where a rule of the domain is broken; ``slack`` widens the ranges."""
    values = dict(numbers)
    steps: list[str] = []
    result = 0
    for left_name, sign, right_name in map(tuple, formula.split(",")):
        left, right = values[left_name], values[right_name]
        if sign == "/" and (right < 2 or left % right):
            return None
        result = {"+": left + right, "-": left - right, "*": left * right, "/": left // max(right, 1)}[sign]
        limit = LARGEST_PRODUCT if sign in "*/" else LARGEST
        if result < 1 or max(left, right, result) > limit * slack or min(left, right) < 1:
            return None
        if sign == "*" and slack == 1 and min(left, right) > 9:
            return None
        steps.append(f"{left} {sign} {right} = {result}")
        values["x"], values["y"] = result, values.get("x", 0)
    return tuple(steps), result


def _tell(text: str, numbers: dict[str, int], rng: random.Random) -> str:
    text = _CHOICE.sub(lambda match: rng.choice(match[1].split("|")), text)
    name, other = rng.sample(list(NAMES), 2)
    box = rng.choice(list(BOXES))
    words = dict(zip(("he", "his", "him"), NAMES[name], strict=True))
    words |= {"n": name, "m": other, "o": rng.choice(THINGS), "f": rng.choice(FOODS), "place": rng.choice(PLACES)}
    words |= {"box": box, "boxes": BOXES[box], "day": rng.choice(DAYS)}
    words |= {letter: str(number) for letter, number in numbers.items()}
    told = _SLOT.sub(lambda match: words[match[1]], text)
    return re.sub(r"(^|[.?] )([a-z])", lambda match: match[1] + match[2].upper(), told)


@cache
def _patterns() -> list[tuple[re.Pattern[str], str]]:
    """Every template as a regular expression, with its steps."""
    people, boxes = "|".join(NAMES), "|".join(BOXES)
    kinds = {
        "n": people, "m": people, "o": "|".join(THINGS), "f": "|".join(FOODS), "place": "|".join(PLACES),
        "box": boxes, "boxes": "|".join(BOXES.values()), "day": "|".join(DAYS),
        "he": "[Hh]e|[Ss]he", "his": "his|her", "him": "him|her",
    }  # fmt: skip
    patterns = []
    for text, formula in STORIES:
        seen: set[str] = set()
        parts = []
        for piece in re.split(r"(\{\w+\}|\[|\]|\|)", text):
            if slot := _SLOT.fullmatch(piece):
                name = slot[1]
                bound = name in seen and name not in ("he", "his", "him")
                parts.append(f"(?P={name})" if bound else _group(name, kinds, again=name in seen))
                seen.add(name)
            else:
                parts.append({"[": "(?:", "]": ")", "|": "|"}.get(piece, re.escape(piece)))
        patterns.append((re.compile("".join(parts)), formula))
    return patterns


def _group(name: str, kinds: dict[str, str], *, again: bool) -> str:
    body = kinds.get(name, r"[1-9]\d{0,3}")
    return f"(?:{body})" if again else f"(?P<{name}>{body})"
