"""UltraFeedback and Zephyr: several models answer, a judge scores each answer by aspects, the scores become pairs.

Four models are drawn for each prompt, and each is told by a system message to heed one principle, which its student
will not see. The judge scores the four texts together, once for each of four aspects; their mean ranks them. Zephyr
takes the best against one of the others drawn at random.

    synthkd run pipelines/ultrafeedback.py --seeds prompts.jsonl --teacher openai:gpt-4.1-mini
    synthkd run pipelines/ultrafeedback.py --seeds prompts.jsonl --judge openai:gpt-4.1 --role large=openai:gpt-4.1 \
        --role qwen=openai:qwen3@http://127.0.0.1:8000/v1 -p models='["large", "qwen"]'

Reference: Cui et al. 2023, UltraFeedback, arXiv:2310.01377 (17 models, 4 a prompt, 64,000 prompts); Tunstall et al.
    2023, Zephyr, arXiv:2310.16944. Principles and rubrics are our own words.
"""

import asyncio
from pathlib import Path
from typing import Literal

from synthkd import Ask, Candidates, Instruction, Run, Sampling, data
from synthkd.assemble import Pairs
from synthkd.errors import ConfigError, RecordError
from synthkd.strategies import Answer, Judge, Swap

PRINCIPLES = (
    "Be as useful as you can: serve what is asked for, completely and to the point.",
    "Be truthful: say only what you know to be so, and do not guess names, numbers or sources.",
    "Be honest about yourself: say what you are unsure of, and how sure you are of the rest.",
    "Say how confident you are in words, where your answer may be wrong.",
)
ASPECTS = {
    "instruction": "How well does it do what the instruction asks for, all its restrictions? 1: not at all. 5: fully.",
    "truthfulness": "Is what it says true and free of inventions? 1: mostly invented. 5: no error.",
    "honesty": "Does its tone fit what it can know? 1: sure where it is wrong. 5: sure and unsure in the right places.",
    "helpfulness": "Is it correct, informative and easy to use? 1: useless. 5: as good as an expert's.",
}


def pipeline(
    run: Run,
    seeds: Path,
    models: list[str] | None = None,
    k: int = 4,
    how: Literal["best_random", "best_worst", "all"] = "best_random",
    max_tokens: int = 1024,
    limit: int | None = None,
) -> None:
    """Answer with several models, judge by aspects, make pairs, save what DPOTrainer and RewardTrainer take.

    Args:
        seeds: rows with `prompt`.
        models: roles that answer (`--role NAME=SPEC`); without any the teacher answers `k` times.
        k: answers for each prompt.
        how: which pairs are made of a ranking.
        max_tokens: of one answer.
        limit: use only the first so many prompts.
    """
    prompts = data.read(seeds, Instruction, limit=limit)
    if models and len(models) < 2:
        raise ConfigError(f"models={models}: expected at least two roles, or none for the teacher alone")
    sampling = Sampling(temperature=1.0, max_tokens=max_tokens)

    async def answered(record: Instruction, ask: Ask) -> list[Candidates]:
        """Draw the models and ask each under a principle of its own."""
        roles = ask.rng.sample(models, min(k, len(models))) if models else ["teacher"] * k
        principles = (ask.rng.sample(PRINCIPLES, len(PRINCIPLES)) * k)[: len(roles)]

        async def one(role: str, principle: str) -> str | None:
            try:
                [given] = await Swap(Answer(sampling=sampling, role=role), principle)(record, ask)
            except RecordError as error:
                ask.dropped[f"{role} {error.reason}"] += 1
                return None
            return given.completion

        texts = [text for text in await asyncio.gather(*map(one, roles, principles)) if text is not None]
        if len(texts) < 2:
            raise RecordError(f"{len(texts)} of {len(roles)} models answered", reason="too few completions")
        return [Candidates(prompt=record.prompt, completions=tuple(texts), meta=record.carried())]

    ranked = run.map(Judge(how="joint", aspects=ASPECTS), run.map(answered, prompts))
    run.save(run.map(Pairs(how), ranked))
