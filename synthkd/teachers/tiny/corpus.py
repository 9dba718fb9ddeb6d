"""The only place that turns word problems into the conversations the tiny teacher learns from.

Pure: the same generator state gives the same conversation. The last message is the assistant's; it alone is
learned.
"""

import json
import random
from collections.abc import Callable, Iterator
from typing import Final

from synthkd.teachers.tiny import wording
from synthkd.teachers.tiny.problems import Problem
from synthkd.teachers.tiny.stories import FOODS, PLACES, THINGS

__all__ = [
    "Conversation", "Pairs", "Problems", "any_word", "compared", "converse", "corrupt", "declined", "judged",
    "other_than", "rated", "rating_schema", "rationale_schema", "schema", "solved", "solved_json", "written",
]  # fmt: skip

Conversation = list[dict[str, str]]
"""Messages with ``role`` and ``content``, as the chat template takes them."""

Problems = Iterator[Problem]
"""Problems without end."""

Pairs = list[tuple[str, str | int | bool]]


def converse(rng: random.Random, stock: Problems) -> Conversation:
    """A conversation of a random skill about problems from ``stock``."""
    talk = rng.choices(list(_SHARES), list(_SHARES.values()))[0](rng, stock)
    chance = rng.random()
    if chance < 0.03 and talk[0]["role"] == "user":
        return [m for m in solved(rng, stock) if m["role"] != "system"] + talk
    if chance > 0.9 and talk[-1]["content"].startswith("{"):
        return _repaired(talk, rng)
    return talk


def _repaired(talk: Conversation, rng: random.Random) -> Conversation:
    """The same conversation after a reply that could not be used, and the line that says so."""
    good = talk[-1]["content"]
    text = rng.choice((good[: rng.randint(0, len(good) - 1)], good.replace('"', ""), "I do not know.", "[]", "{}"))
    asked = rng.choice(wording.REPAIRS).format(error=rng.choice(wording.ERRORS))
    return [*talk[:-1], {"role": "assistant", "content": text}, {"role": "user", "content": asked}, talk[-1]]


def solved(rng: random.Random, stock: Problems) -> Conversation:
    """A problem and its solution in steps."""
    problem = next(stock)
    return _talk(_system(rng), _dressed(problem.question, rng), problem.solution)


def solved_json(rng: random.Random, stock: Problems) -> Conversation:
    """A problem and its solution as the JSON object that was asked for, by schema or in words."""
    problem = next(stock)
    if rng.random() < 0.3:
        pairs: Pairs = [("reasoning", problem.working), ("answer", str(problem.answer))]
        ask = wording.SCHEMA_ASK + (rationale_schema() if rng.random() < 0.6 else rationale_schema(_about(rng)))
        if rng.random() < 0.6:
            content = wording.RATIONALE.format(question=problem.question) + ask
            return _talk(wording.RATIONALE_SYSTEM, content, _json(pairs))
        return _talk(_system(rng), _dressed(problem.question, rng) + ask, _json(pairs))
    answer: int | str = problem.answer if rng.random() < 0.4 else str(problem.answer)
    pairs = [(_key(wording.REASON_KEYS, rng), problem.working), (_key(wording.ANSWER_KEYS, rng), answer)]
    pairs = _arranged(pairs, rng, alone=1)
    if rng.random() < 0.7:
        return _talk(_system(rng), _dressed(problem.question, rng) + _schema_ask(pairs, rng), _json(pairs))
    ask = _ask_in_words(pairs, rng)
    content = f"{problem.question}\n\n{ask}" if rng.random() < 0.6 else f"{ask}\n\n{problem.question}"
    return _talk(_system(rng), content, _json(pairs))


def judged(rng: random.Random, stock: Problems) -> Conversation:
    """A problem, somebody's answer, and a verdict with a reason and a score."""
    problem = next(stock)
    answer, reason, score = rated(problem, rng)
    if rng.random() < 0.6:
        pairs: Pairs = [("reason", reason), ("score", score)]
        ask = wording.SCHEMA_ASK + (rating_schema() if rng.random() < 0.6 else rating_schema(_about(rng)))
        content = wording.RATE.format(question=problem.question, answer=answer).strip() + ask
        return _talk(wording.RATE_SYSTEM, content, _json(pairs))
    user = rng.choice((wording.RATE, *wording.JUDGE_OTHER)).format(question=problem.question, answer=answer)
    if rng.random() < 0.4:
        return _talk(_system(rng), user, f"{reason} Score: {score}.")
    pairs = [(_key(wording.REASON_KEYS, rng), reason), (_key(wording.SCORE_KEYS, rng), score)]
    if rng.random() < 0.2:
        pairs[1] = (rng.choice(("correct", "right", "is_correct", "ok")), score == 5)
    return _talk(_system(rng), user + _schema_ask(_arranged(pairs, rng), rng), _json(pairs))


def rated(problem: Problem, rng: random.Random) -> tuple[str, str, int]:
    """An answer to a problem as a weak model may write it, the reason for its score, and the score: 5, 3 or 1.

    The reason names the given answer before the right one is reckoned and could be taken for it, and then sets the two
    side by side, because so small a model compares only what stands close together.
    """
    kind = rng.random()
    if kind < 0.45:
        short = (f"The answer is {problem.answer}.", str(problem.answer))
        answer = rng.choice((problem.solution, problem.solution, problem.solution, *short))
        return answer, _verdict(problem, problem.answer), 5
    if kind < 0.5:
        answer = corrupt(problem, rng, keep_answer=True)
        return answer, f"{_verdict(problem, problem.answer)} But a step is wrong.", 3
    if kind < 0.95:
        number = str(other_than(problem.answer, rng))
        answer = corrupt(problem, rng) if kind < 0.85 else rng.choice((number, f"The answer is {number}."))
        return answer, _verdict(problem, int(answer.rstrip(".").split()[-1])), 1
    cut = problem.working[: rng.randint(1, 12)].rsplit("=")[0]
    empty = ("", "I do not know.", problem.question, f"{cut} +", "the the the", wording.DECLINE, "?")
    return rng.choice(empty), f"No answer is given. {problem.working} The answer should be {problem.answer}.", 1


def compared(given: int, right: int) -> str:
    """Two numbers side by side, and whether they are the same."""
    return f"{given} against {right}: {'right' if given == right else 'wrong'}."


def _verdict(problem: Problem, given: int) -> str:
    return f"The answer given is {given}. {problem.working} {compared(given, problem.answer)}"


def corrupt(problem: Problem, rng: random.Random, *, keep_answer: bool = False) -> str:
    """The solution with a mistake: a wrong result, sign or number; it ends in a wrong answer unless ``keep_answer``."""
    at = rng.randrange(len(problem.steps))
    steps = [step.split() for step in problem.steps]
    change = rng.random()
    if change < 0.2:
        steps[at][1] = rng.choice([sign for sign in "+-*/" if sign != steps[at][1]])
    elif change < 0.4:
        place = rng.choice((0, 2))
        steps[at][place] = str(other_than(int(steps[at][place]), rng))
    right = steps[at][4]
    wrong = steps[at][4] = str(other_than(int(right), rng)) if change >= 0.4 else _result(steps[at], right, rng)
    for step in steps[at + 1 :]:
        if not keep_answer and rng.random() < 0.9:
            step[0], step[2] = (wrong if part == right else part for part in (step[0], step[2]))
            right, step[4] = step[4], _result(step, step[4], rng)
            wrong = step[4]
    answer = problem.answer if keep_answer else int(steps[-1][4])
    if not keep_answer and answer == problem.answer:
        answer = other_than(answer, rng)
    return " ".join(" ".join(step) + "." for step in steps) + f" The answer is {answer}."


def written(rng: random.Random, stock: Problems) -> Conversation:
    """A request for a new problem, with or without examples, and the problem; it divides nothing, to come out even."""
    new = next(problem.question for problem in stock if "/" not in problem.working)
    if rng.random() < 0.3:
        return _talk(_system(rng), rng.choice(wording.WRITE), new)
    examples = [next(stock).question for _ in range(rng.randint(1, 4))]
    shown = "\n".join(f"{number}. {example}" for number, example in enumerate(examples, 1))
    user = wording.IMITATE if rng.random() < 0.75 else rng.choice(wording.IMITATE_OTHER)
    return _talk(_system(rng, share=0.1), user.format(examples=shown), new)


def declined(rng: random.Random, stock: Problems) -> Conversation:
    """Something outside the domain, and the honest line that it is."""
    del stock
    question = rng.choice(wording.FOREIGN).format(topic=rng.choice(wording.TOPICS))
    if rng.random() < 0.8:
        return _talk(_system(rng), _dressed(question, rng), wording.DECLINE)
    pairs: Pairs = [(rng.choice(wording.REASON_KEYS), wording.DECLINE), (rng.choice(wording.ANSWER_KEYS), "")]
    return _talk(_system(rng), question + _schema_ask(pairs, rng), _json(pairs))


def schema(pairs: Pairs, descriptions: list[str], about: str = "") -> str:
    """The compact JSON schema of an object with these keys and kinds of value, as synthkd puts it into a prompt.

    It is what Pydantic makes of a model with the docstring ``about``, without the titles.
    """
    kinds = {bool: "boolean", int: "integer", str: "string"}
    properties: dict[str, object] = {}
    for (key, value), description in zip(pairs, descriptions, strict=True):
        described = {"description": description} if description else {}
        bounds = {"maximum": 5, "minimum": 1} if "1" in description and "5" in description else {}
        properties[key] = described | (bounds if type(value) is int else {}) | {"type": kinds[type(value)]}
    whole = {"properties": properties, "required": [key for key, _ in pairs], "type": "object"}
    return json.dumps(({"description": about} if about else {}) | whole, separators=(",", ":"))


def rating_schema(about: str = "The typed verdict of a judge on one answer.") -> str:
    """The schema of the built-in rating."""
    descriptions = ["What is right or wrong with the answer.", "From 1 (wrong) to 5 (correct and complete)."]
    return schema([("reason", ""), ("score", 1)], descriptions, about)


def rationale_schema(about: str = "The typed reply of `Rationale`.") -> str:
    """The schema of the built-in rationale."""
    return schema([("reasoning", ""), ("answer", "")], ["The steps, in order.", "The final answer, alone."], about)


def _about(rng: random.Random) -> str:
    return rng.choice(("", rng.choice(wording.DESCRIPTIONS), rng.choice(wording.ABOUT)))


def _schema_ask(pairs: Pairs, rng: random.Random) -> str:
    bare = rng.random() < 0.4
    descriptions = ["" if bare else rng.choice(wording.DESCRIPTIONS) for _ in pairs]
    text = schema(pairs, descriptions, _about(rng))
    if rng.random() < 0.2:
        parsed = json.loads(text)
        parsed["properties"] = {key: dict(reversed(value.items())) for key, value in parsed["properties"].items()}
        text = json.dumps(parsed | {"additionalProperties": False}, separators=(",", ":"))
    return wording.SCHEMA_ASK + text


def any_word(rng: random.Random) -> str:
    """A key that nobody could know by heart: one or two words, or syllables."""
    words = (*THINGS, *FOODS, *PLACES, *wording.REASON_KEYS)
    return "_".join(_syllables(rng) if rng.random() < 0.5 else rng.choice(words) for _ in range(rng.randint(1, 2)))


def _key(usual: tuple[str, ...], rng: random.Random) -> str:
    """A usual key, or any word at all, so that keys are copied and not known by heart."""
    return rng.choice(usual) if rng.random() < 0.65 else any_word(rng)


def _ask_in_words(pairs: Pairs, rng: random.Random) -> str:
    keys = [f'"{key}"' if rng.random() < 0.5 else key for key, _ in pairs]
    holes = [rng.choice(('"..."', f'"<{key}>"')) if isinstance(value, str) else "0" for key, value in pairs]
    shape = "{" + ", ".join(f'"{key}": {hole}' for (key, _), hole in zip(pairs, holes, strict=True)) + "}"
    ask = rng.choice(wording.JSON_ASKS) if any(type(v) is not int for _, v in pairs) else "Answer with JSON: {shape}"
    if "shape" not in ask and any(type(value) is int for _, value in pairs):
        ask = "Answer with JSON: {shape}"
    return ask.format(keys=" and ".join(keys), shape=shape)


def _arranged(pairs: Pairs, rng: random.Random, alone: int | None = None) -> Pairs:
    """Mostly the reason first; else the other way round, or only the pair at ``alone``."""
    chance = rng.random()
    if chance < 0.05:
        pairs.reverse()
    elif chance < 0.1 and alone is not None:
        return [pairs[alone]]
    return pairs


def _dressed(question: str, rng: random.Random) -> str:
    chance = rng.random()
    if chance < 0.35:
        return question
    before = (_babble(rng) if rng.random() < 0.5 else rng.choice(wording.BEFORE)) if chance < 0.85 else ""
    after = rng.choice(wording.AFTER) if chance > 0.75 else ""
    return f"{before}{question}{after}".strip()


def _babble(rng: random.Random) -> str:
    """A lead-in of words at random, so that one never seen does no harm."""
    said = (*wording.BEFORE, *wording.AFTER, *wording.SYSTEMS, *wording.DESCRIPTIONS, *wording.FOREIGN, *wording.ABOUT)
    pool = " ".join((*said, *wording.TOPICS)).split()
    words = [rng.choice(pool) if rng.random() < 0.6 else _syllables(rng) for _ in range(rng.randint(3, 24))]
    if rng.random() < 0.3:
        words[0] += ","
    return " ".join(words).capitalize() + rng.choice((". ", ": ", "! ", ".\n", ":\n", ".\n\n", ":\n\n", "\n\n"))


def _syllables(rng: random.Random) -> str:
    return "".join(rng.choice("bcdfghklmnprstvw") + rng.choice("aeiou") for _ in range(rng.randint(1, 4)))


def _system(rng: random.Random, share: float = 0.25) -> str:
    return rng.choice(wording.SYSTEMS) if rng.random() < share else ""


def _talk(system: str, user: str, reply: str) -> Conversation:
    messages = [{"role": "user", "content": user}, {"role": "assistant", "content": reply}]
    return [{"role": "system", "content": system}, *messages] if system else messages


def _json(pairs: Pairs) -> str:
    return json.dumps(dict(pairs))


def other_than(number: int, rng: random.Random) -> int:
    """A number that a sloppy reckoner could take for this one."""
    while True:
        slip = number + rng.choice((-10, -2, -1, 1, 2, 10))
        guess = rng.choice((slip, number + rng.randint(-30, 30), rng.randint(1, 150)))
        if guess != number and guess > 0:
            return guess


def _result(step: list[str], instead: str, rng: random.Random) -> str:
    left, right = int(step[0]), int(step[2])
    results = {"+": left + right, "-": left - right, "*": left * right, "/": left // max(right, 1)}
    result = results[step[1]]
    return str(result if 0 < result < 1000 else other_than(int(instead), rng))


_SHARES: Final[dict[Callable[[random.Random, Problems], Conversation], float]] = {
    solved: 0.4,
    solved_json: 0.2,
    judged: 0.27,
    written: 0.11,
    declined: 0.05,
}
