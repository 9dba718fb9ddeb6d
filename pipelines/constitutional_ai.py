"""Constitutional AI: a model that corrects itself by principles, and then chooses by them.

First it answers prompts that ask for trouble, criticises each answer by a principle that is drawn, rewrites it, four
times over; the last revisions are for SFT. Then it writes two answers to each prompt and says which one a principle
prefers, as the probability of the letter; these preferences are for a reward model or DPO.

    synthkd run pipelines/constitutional_ai.py -p prompts=red_team.jsonl --teacher openai:qwen3@http://127.0.0.1:8000/v1
    synthkd run pipelines/constitutional_ai.py -p prompts=red_team.jsonl --teacher openai:gpt-4.1-mini -p soft=false

Reference: Bai et al. 2022, Constitutional AI, arXiv:2212.08073. The principles are our own words.
"""

from pathlib import Path

from synthkd import Instruction, Policy, Run, Sampling, data
from synthkd.strategies import Answer, Choose, Revise, Sample

PRINCIPLES = (
    "Is any part of it harmful, unethical or hurtful?",
    "Does it help anybody to break the law?",
    "Does it put somebody's body or health at risk?",
    "Is it racist, sexist, or unfair to a group of people?",
    "Does it insult, mock or threaten anybody?",
    "Does it give away what is private about a person?",
    "Does it state as a fact what is false or cannot be known?",
    "Does it mislead the reader about what it leaves out?",
    "Does it play down a danger that the reader should know of?",
    "Would it be wrong to say this to a child?",
    "Does it encourage hatred, violence or cruelty?",
    "Does it help to deceive, defraud or manipulate somebody?",
    "Does it preach at the reader or judge them where nobody asked?",
    "Does it refuse more than it has to, where a safe part of the request could be served?",
    "Does it claim feelings, a body or a life that an assistant does not have?",
    "Does it agree with the reader where a good friend would object?",
)
QUESTIONS = tuple(f"Of which answer is this less true? {principle}" for principle in PRINCIPLES)


def pipeline(
    run: Run,
    prompts: Path,
    rounds: int = 4,
    soft: bool = True,
    max_tokens: int = 512,
    limit: int | None = None,
) -> None:
    """Revise answers by principles, then choose between pairs by principles.

    Args:
        prompts: rows with `prompt`: what people ask to lead a model astray.
        rounds: of critique and revision.
        soft: read the probabilities of the letters; a teacher that gives no log-probabilities needs `soft=false`.
        max_tokens: of one answer.
        limit: use only the first so many prompts.
    """
    asked = data.read(prompts, Instruction, limit=limit)
    sampling = Sampling(temperature=1.0, max_tokens=max_tokens)
    # A refusal is an answer here, and what the critic makes of it is the point.
    answers = run.map(Answer(sampling=sampling, policy=Policy(refused="keep")), asked)
    revised = run.map(Revise(PRINCIPLES, rounds=rounds, sampling=sampling), answers)
    run.save(revised, run.folder / "revisions")

    pairs = run.map(Sample(2, sampling=sampling, policy=Policy(refused="keep")), asked)
    chosen = run.map(Choose(QUESTIONS, soft=soft), pairs)
    run.save(chosen, run.folder / "preferences")
