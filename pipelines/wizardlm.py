"""WizardLM: instructions that grow harder and stranger, round by round, and their answers.

Each round draws an operator: five make an instruction harder (a constraint, more depth, something concrete, more steps,
an input in another format), one makes a rare new one of the same domain. What gained nothing, copied words of the
prompt or cannot be answered goes back to what it was. The first instructions and all rounds together are answered.

    synthkd run pipelines/wizardlm.py --seeds alpaca.jsonl --teacher openai:gpt-4.1-mini --limit 1000
    synthkd run pipelines/wizardlm.py --seeds alpaca.jsonl --teacher openai:qwen3@http://127.0.0.1:8000/v1 -p rounds=2

Reference: Xu et al. 2023, WizardLM (Evol-Instruct), arXiv:2304.12244: 4 rounds, 250,000 instructions of 52,000.
"""

from pathlib import Path

from synthkd import Instruction, Run, Sampling, data
from synthkd.assemble import Mixture, mix
from synthkd.strategies import Answer, Evolve
from synthkd.strategies.expansion import IN_BREADTH, IN_DEPTH


def pipeline(
    run: Run,
    seeds: Path,
    rounds: int = 4,
    max_tokens: int = 2048,
    limit: int | None = None,
) -> None:
    """Evolve, join with the originals, answer, save.

    Args:
        seeds: rows with `instruction`.
        rounds: of evolution.
        max_tokens: of one answer.
        limit: use only the first so many seeds.
    """
    first = data.read(seeds, Instruction, fields={"prompt": "instruction"}, limit=limit)
    sampling = Sampling(temperature=1.0, top_p=0.95, max_tokens=max_tokens)
    harder = run.map(Evolve(IN_DEPTH | IN_BREADTH, rounds=rounds, sampling=sampling), first)
    # Everything, shuffled: each source weighs as much as it has.
    together: Mixture[Instruction] = mix(
        {"original": (first, len(first)), "evolved": (harder, len(harder))}, seed=run.seed
    )
    run.save(run.map(Answer(sampling=sampling), together))
