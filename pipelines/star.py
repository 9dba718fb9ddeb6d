"""STaR: a student that teaches itself, by keeping the rationales that reach the right answer.

Each round the student reasons about every question, shown a few worked examples; where it goes wrong it is asked once
more with the right answer as a hint. What reaches the answer, with a hint or without, is what the next student learns,
always from the base model, and the hint is never in what it learns from.

    synthkd run pipelines/star.py --seeds gsm8k_train.jsonl --student local:Qwen/Qwen3-0.6B -p base=Qwen/Qwen3-0.6B
    synthkd run pipelines/star.py --seeds gsm8k_train.jsonl --student tiny --limit 200

Reference: Zelikman et al. 2022, STaR, arXiv:2203.14465.
"""

from pathlib import Path

from synthkd import Demonstration, Instruction, Prompt, Run, Sampling, Stage, data, training
from synthkd.strategies import Answer, Shots, Verified
from synthkd.teachers import LocalTeacher

ROLES = {"student": "tiny"}


class Problem(Instruction):
    """A question with the gold answer, which the student sees as a hint at most."""

    answer: str


def pipeline(
    run: Run,
    seeds: Path,
    examples: Path | None = None,
    k: int = 10,
    base: str | None = None,
    rounds: int = 1,
    epochs: float = 1.0,
    learning_rate: float | None = None,
    max_tokens: int = 512,
    limit: int | None = None,
) -> None:
    """Sample, keep what is right, rationalise what is wrong, train from the base model, and again.

    Args:
        seeds: rows with `question` and `answer`, whose last line may be `#### N`.
        examples: worked examples to show (`prompt`, `completion` with the steps in it); the paper writes ten by hand.
        k: how many of them are shown with each question.
        base: the model that is trained after each round, a folder or an id on the Hub; without one it ends after the
            first round's dataset.
        rounds: of sampling and training.
        epochs: passes over a round's dataset.
        learning_rate: of the training; by default 2e-5. A tiny base wants more.
        max_tokens: of one rationale.
        limit: use only the first so many questions.
    """
    problems = data.read(seeds, Problem, fields={"prompt": "question"}, limit=limit)
    # In plain text, for what is learnt in one round is how the next one's student is asked.
    reason = Answer(role="student", sampling=Sampling(temperature=0.0, max_tokens=max_tokens))
    shown = Shots(reason, list(data.read(examples, Demonstration)), k) if examples else reason
    strategy = Verified(shown, gold="answer", tries=1, hint=Prompt("labeling/gold", str))
    student = run.roles["student"]
    for number in range(1, rounds + 1):
        right: Stage[Demonstration] = run.map(strategy, problems, name=f"round-{number}", student=student)
        dataset = run.save(right, run.folder / f"round-{number}")
        if base is not None:
            trained = training.sft(
                dataset,
                base,
                run.folder / f"student-{number}",
                epochs=epochs,
                learning_rate=learning_rate,
                quiet=run.quiet,
            )
            student = LocalTeacher(trained)
