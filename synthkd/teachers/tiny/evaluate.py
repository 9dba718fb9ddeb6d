"""The only place that measures the tiny teacher on held-out problems and writes the numbers into its model card.

``python -m synthkd.teachers.tiny.evaluate MODEL [--n 500] [--card]``. What it asks is what synthkd's built-in prompts
ask; a reply counts only when it is right as a whole, JSON included.
"""

import argparse
import json
import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from synthkd.teachers.tiny import corpus, wording
from synthkd.teachers.tiny.corpus import Conversation
from synthkd.teachers.tiny.problems import Problem, generate, read

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

__all__ = ["SKILLS", "Question", "answer_in", "complete", "measure", "questions"]

UNSEEN: Final = (
    "Dear friend, I am stuck on the exercise that follows and would be glad of your help with it.\n\n",
    "Please work out the following exercise for my daughter.\n\n",
    "Now for a puzzle: ",
    "Hey there! ",
    "My little brother cannot do this one. ",
    "I have a question about some homework that my teacher gave me today. ",
    "Exam, part B.\n",
    "Compute with care and write every line of it down.\n\n",
)
"""Lead-ins that training has not shown."""

STRANGE: Final = (
    "How tall is the Eiffel Tower?",
    "Write me a haiku about autumn.",
    "Who was Marie Curie?",
    "Sort [3, 1, 2].",
    "My dog is ill. What should I do?",
    "Fix the bug in this code: print(x",
    "Which is heavier, iron or wood?",
    "What is the weather like in Oslo?",
)
"""Questions of other domains that training has not shown."""

Table = dict[str, dict[float, float]]
"""The share of right replies, by skill and temperature."""

TEMPERATURES: Final = (0.0, 0.7, 1.0)


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, and the check that the reply must pass."""

    messages: Conversation
    passes: Callable[[str], bool]


def answer_in(text: str) -> str | None:
    """The last number that a text gives as its answer; None when it gives none."""
    found = re.findall(r"answer is (-?\d+)", text)
    return found[-1] if found else None


def questions(skill: str, n: int, seed: int = 1) -> list[Question]:
    """``n`` held-out questions of a skill."""
    rng = random.Random(f"{seed}/{skill}")
    return [SKILLS[skill](problem, rng) for problem in generate(n, seed, "test")]


def complete(
    model: "LlamaForCausalLM",
    tokenizer: "PreTrainedTokenizerFast",
    talks: list[Conversation],
    temperature: float = 0.0,
    batch: int = 128,
    n: int = 1,
) -> list[list[str]]:
    """``n`` replies to each conversation, greedy at temperature 0; conversations of like length share a batch."""
    import torch

    texts = [str(tokenizer.apply_chat_template(talk, tokenize=False, add_generation_prompt=True)) for talk in talks]
    order = sorted(range(len(texts)), key=lambda at: len(texts[at]))
    tokenizer.padding_side = "left"
    sampling: dict[str, Any] = {"do_sample": False}
    if temperature:
        sampling = {"do_sample": True, "temperature": temperature, "top_k": 0}
    replies: list[list[str]] = [[] for _ in texts]
    for start in range(0, len(order), batch):
        chosen = order[start : start + batch]
        inputs = tokenizer([texts[at] for at in chosen], return_tensors="pt", padding=True, return_token_type_ids=False)
        with torch.inference_mode():
            out = model.generate(**inputs, max_new_tokens=120, num_return_sequences=n, **sampling)
        said = tokenizer.batch_decode(out[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        for place, at in enumerate(chosen):
            replies[at] = said[place * n : (place + 1) * n]
    return replies


def measure(path: str | Path, n: int = 500, temperatures: tuple[float, ...] = TEMPERATURES) -> Table:
    """The share of ``n`` held-out questions that pass, by skill and temperature."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model: Any = AutoModelForCausalLM.from_pretrained(path).float().eval()
    tokenizer: Any = AutoTokenizer.from_pretrained(path)
    table: Table = {}
    for skill in SKILLS:
        asked = questions(skill, n)
        table[skill] = {}
        for temperature in temperatures:
            replies = complete(model, tokenizer, [question.messages for question in asked], temperature)
            right = sum(question.passes(reply[0]) for question, reply in zip(asked, replies, strict=True))
            table[skill][temperature] = right / len(asked)
        shares = ", ".join(f"{share:.1%} at {temperature}" for temperature, share in table[skill].items())
        print(f"{skill}: {shares}", flush=True)  # noqa: T201 - it is a script
    return table


def _solve(problem: Problem, rng: random.Random, before: str = "") -> Question:
    del rng
    return Question([_user(before + problem.question)], lambda said: said == problem.solution)


def _solve_unseen(problem: Problem, rng: random.Random) -> Question:
    return _solve(problem, rng, rng.choice(UNSEEN))


def _rationale(problem: Problem, rng: random.Random) -> Question:
    del rng
    expected = {"reasoning": problem.working, "answer": str(problem.answer)}
    ask = wording.SCHEMA_ASK + corpus.rationale_schema()
    user = _user(wording.RATIONALE.format(question=problem.question) + ask)
    system = {"role": "system", "content": wording.RATIONALE_SYSTEM}
    return Question([system, user], lambda said: _loaded(said) == expected)


def _own_keys(problem: Problem, rng: random.Random) -> Question:
    keys = rng.choice((("my_way", "apples"), ("idea", "outcome"), ("because", "therefore")))
    expected: corpus.Pairs = [(keys[0], problem.working), (keys[1], problem.answer)]
    ask = wording.SCHEMA_ASK + corpus.schema(expected, ["", ""])
    return Question([_user(problem.question + ask)], lambda said: _loaded(said) == dict(expected))


def _judge(problem: Problem, rng: random.Random) -> Question:
    answer, _, score = corpus.rated(problem, rng)
    asked = wording.RATE.format(question=problem.question, answer=answer).strip()
    content = asked + wording.SCHEMA_ASK + corpus.rating_schema()

    def passes(said: str) -> bool:
        reply = _loaded(said)
        return set(reply) == {"reason", "score"} and reply["score"] == score

    return Question([{"role": "system", "content": wording.RATE_SYSTEM}, _user(content)], passes)


def _write(problem: Problem, rng: random.Random) -> Question:
    others = generate(rng.randint(0, 3), rng.randrange(2**31), "test")
    examples = [problem.question, *(other.question for other in others)]
    shown = "\n".join(f"{number}. {example}" for number, example in enumerate(examples, 1))
    user = _user(wording.IMITATE.format(examples=shown))
    return Question([user], lambda said: said not in examples and read(said) is not None)


def _decline(problem: Problem, rng: random.Random) -> Question:
    del problem
    return Question([_user(rng.choice(STRANGE))], lambda said: said == wording.DECLINE)


def _user(content: str) -> dict[str, str]:
    return {"role": "user", "content": content}


def _loaded(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


SKILLS: Final[dict[str, Callable[[Problem, random.Random], Question]]] = {
    "solve": _solve,
    "solve, lead-in never seen": _solve_unseen,
    "solve as JSON, built-in prompt": _rationale,
    "solve as JSON, keys never seen": _own_keys,
    "judge an answer": _judge,
    "write a new problem": _write,
    "decline what is foreign": _decline,
}
"""The skills that are measured, each with the question it makes of a held-out problem."""


def write_card(card: Path, table: Table, n: int) -> None:
    """Put the measured numbers between the marks of a model card."""
    temperatures = list(next(iter(table.values())))
    head = "| skill | " + " | ".join("greedy" if t == 0 else f"temperature {t}" for t in temperatures) + " |"
    lines = [head, "|---" * (len(temperatures) + 1) + "|"]
    for skill, row in table.items():
        lines.append(f"| {skill} | " + " | ".join(f"{share:.1%}" for share in row.values()) + " |")
    numbers = "\n".join([*lines, "", f"n = {n} held-out problems for each number."])
    marked = re.compile(r"(<!-- numbers -->\n).*?(<!-- /numbers -->)", re.DOTALL)
    card.write_text(marked.sub(lambda match: f"{match[1]}{numbers}\n{match[2]}", card.read_text()))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Measure the tiny teacher on held-out problems.")
    parser.add_argument("model", type=Path, help="the model's folder")
    parser.add_argument("--n", type=int, default=500, help="how many problems for each skill")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--greedy", action="store_true", help="measure greedy decoding alone")
    parser.add_argument("--card", action="store_true", help="write the numbers into the model's README.md")
    options = parser.parse_args()
    import torch

    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    table = measure(options.model, options.n, (0.0,) if options.greedy else TEMPERATURES)
    if options.card:
        write_card(options.model / "README.md", table, options.n)


if __name__ == "__main__":
    main()
