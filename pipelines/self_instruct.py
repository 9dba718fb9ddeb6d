"""Self-Instruct: a few human-written instructions grow into many, and each gets inputs and outputs.

Each call shows six human and two grown instructions and asks for more; what is new stays. Then each is told to be a
classification or not, and gets instances: label first for a classification, input first for the rest.

    synthkd run pipelines/self_instruct.py --seeds seed_tasks.jsonl --teacher openai:gpt-4.1-mini -p until=1000
    synthkd run pipelines/self_instruct.py --seeds seed_tasks.jsonl --teacher openai:qwen3@http://127.0.0.1:8000/v1

Reference: Wang et al. 2022, Self-Instruct, arXiv:2212.10560: 175 seeds, 52,000 instructions, 82,000 instances; ROUGE-L
    of 0.7 is too similar, instructions have more than 3 and at most 150 words.
"""

import re
from pathlib import Path

from synthkd import Instruction, Run, Sampling, data
from synthkd.filters import dedup, every, keywords, length, novelty, opening
from synthkd.strategies import Instances, IsClassification, SelfInstruct

ROLES: dict[str, str] = {}
UNFIT = (
    *("image", "images", "graph", "graphs", "picture", "pictures", "file", "files", "map", "maps", "draw", "plot"),
    "go to",
    re.compile(r"^Write a program"),
)
"""What a language model cannot serve in text, or what GPT-3 wrote too often."""


def pipeline(
    run: Run,
    seeds: Path,
    until: int = 1000,
    instances: int = 5,
    threshold: float = 0.7,
    at_a_time: int = 64,
    max_tokens: int = 1024,
) -> None:
    """Grow instructions, make instances of them, save them with TRL's columns.

    Args:
        seeds: rows with `instruction`, the human-written ones.
        until: how many instructions to grow.
        instances: of one instruction, at most.
        threshold: ROUGE-L F1 from which on an instruction counts as known.
        at_a_time: calls in one round, none of which sees what the others give.
        max_tokens: of one reply.
    """
    human = data.read(seeds, Instruction, fields={"prompt": "instruction"})
    fit = every(
        length(min_words=4, max_words=150, of="prompt"),
        keywords(forbid=UNFIT, of="prompt"),
        opening(ascii_only=True, of="prompt"),
        novelty(threshold),
    )
    sampling = Sampling(temperature=0.7, top_p=0.5, presence_penalty=2.0, max_tokens=max_tokens)
    grown = run.grow(SelfInstruct(sampling=sampling), human, until=until, rule=fit, at_a_time=at_a_time)
    told = run.map(IsClassification(), grown)
    made = run.map(Instances(instances, sampling=Sampling(temperature=0.0, max_tokens=max_tokens)), told)
    run.save(run.filter(dedup.exact(of="all"), made))
