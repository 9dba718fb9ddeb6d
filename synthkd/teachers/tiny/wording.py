"""The only place for the ways in which the tiny teacher is asked: lead-ins, systems, keys, and what it does not know.

The built-in prompts of synthkd stand here word for word, because the model is trained on them first of all.
"""

from typing import Final

__all__ = [
    "ABOUT", "AFTER", "ANSWER_KEYS", "BEFORE", "DECLINE", "DESCRIPTIONS", "ERRORS", "FOREIGN", "IMITATE",
    "IMITATE_OTHER", "JSON_ASKS", "JUDGE_OTHER", "RATE", "RATE_SYSTEM", "RATIONALE", "RATIONALE_SYSTEM",
    "REASON_KEYS", "REPAIRS", "SCHEMA_ASK", "SCORE_KEYS", "SYSTEMS", "TOPICS", "WRITE",
]  # fmt: skip


def _words(text: str, by: str = " ") -> tuple[str, ...]:
    return tuple(text.split(by))


SCHEMA_ASK: Final = "\n\nReply with one JSON object and nothing else. It must follow this JSON schema:\n"
"""What synthkd puts between the last user message and the schema of the reply."""

RATIONALE_SYSTEM: Final = "You reason carefully and show your work."
RATIONALE: Final = "Work through this step by step, then state the final answer on its own.\n\n{question}"
RATE_SYSTEM: Final = "You are a fair and strict judge."
RATE: Final = (
    "Judge how well the answer solves the instruction. First say what is right or wrong with it, then "
    "give a score from "
    "1 (wrong or useless) to 5 (correct and complete).\n\n[Instruction]\n{question}\n\n[Answer]\n{answer}"
)
IMITATE: Final = (
    "Here are some instructions of one kind:\n\n{examples}\n\nWrite one new instruction of the same "
    "kind, about another "
    "situation. Reply with the instruction alone."
)

SYSTEMS: Final[tuple[str, ...]] = (
    "You are a helpful assistant.",
    "You are a teacher.",
    "You are a careful math tutor.",
    "You solve word problems for children.",
    "Answer truthfully and briefly.",
    "You are an expert in arithmetic. Think before you answer.",
    "Be exact. Show every step.",
    "You help students with their homework.",
    RATIONALE_SYSTEM,
)

BEFORE: Final[tuple[str, ...]] = (
    "Solve this: ",
    "Solve this problem.\n\n",
    "Solve the following problem step by step.\n\n",
    "Answer the question. ",
    "Answer the following question.\n\n",
    "Question: ",
    "Q: ",
    "Problem: ",
    "Problem:\n",
    "[Problem]\n",
    "[Instruction]\n",
    "### Instruction:\n",
    "Think step by step. ",
    "Let's think step by step.\n",
    "Please help me with my homework: ",
    "Can you solve this word problem? ",
    "Here is a math problem. Show your work.\n\n",
    "Work through this step by step, then state the final answer on its own.\n\n",
    "Read the story carefully and work out the answer.\n\n",
    "Explain how you find the result, then give the final number.\n\n",
    "You get a task from a school book. Write down the calculations in order and finish with the answer.\n\n",
    "Give a short solution of the exercise below.\n\n",
    "First list the steps, then the answer.\n\n",
    "Task: ",
    "Use simple arithmetic. ",
    "A student asks: ",
)

AFTER: Final[tuple[str, ...]] = (
    "\n\nThink step by step.",
    "\n\nLet's think step by step.",
    " Show your work.",
    "\nAnswer:",
    "\n\nSolution:",
    "\n\nA:",
    "\n\nGive the steps and the answer.",
    "\n\nExplain your reasoning, then state the answer.",
    " Please explain.",
    "\n\n### Response:\n",
    "\n\nEnd with the final answer.",
)

JSON_ASKS: Final[tuple[str, ...]] = (
    "Reply as JSON with the keys {keys}.",
    "Answer with JSON: {shape}",
    "Give your answer as a JSON object with the fields {keys}.",
    "Return only JSON in this form: {shape}",
    "Respond with a JSON object like {shape} and nothing else.",
    "Output JSON with {keys}.",
    "Your reply must be one JSON object with the keys {keys}.",
    "Format: {shape}",
)

REASON_KEYS: Final[tuple[str, ...]] = _words(
    "reasoning steps rationale explanation solution reason thought thoughts work working derivation "
    "analysis calculation "
    "chain_of_thought thinking logic how justification comment details method"
)
ANSWER_KEYS: Final[tuple[str, ...]] = _words(
    "answer result final_answer value number final output total response conclusion "
    "solution_value label prediction final_result"
)
SCORE_KEYS: Final[tuple[str, ...]] = ("score", "rating", "grade", "points", "mark", "quality", "stars")

DESCRIPTIONS: Final[tuple[str, ...]] = (
    "The steps, in order.",
    "The final answer, alone.",
    "What is right or wrong with the answer.",
    "From 1 (wrong) to 5 (correct and complete).",
    "How the result is found.",
    "The number that was asked for.",
    "Step by step reasoning.",
    "A short explanation.",
    "Only the number.",
    "The result of the last step.",
    "Why.",
    "An integer from 1 to 5.",
    "Text for the reader.",
)

ABOUT: Final[tuple[str, ...]] = (
    "The typed verdict of a judge on one answer.",
    "The typed reply of `Rationale`.",
    "A reply.",
    "A solution with its result.",
    "What the model must give back.",
    "One verdict.",
    "A grade for a student's answer.",
    "The final answer.",
)
"""What the docstring of a reply's class may say; it opens the schema."""

REPAIRS: Final[tuple[str, ...]] = (
    "That reply cannot be used: {error}\nReply again with the corrected JSON object and nothing else.",
    "That reply cannot be used: {error}\nReply again with the corrected JSON object and nothing else.",
    "Your reply was not valid: {error} Please answer again.",
    "{error}\nTry again.",
)

ERRORS: Final[tuple[str, ...]] = (
    "no JSON object in the reply",
    "the reply: Field required (got {})",
    "answer: Field required (got '')",
    "score: Input should be a valid integer (got 'five')",
    "score: Input should be less than or equal to 5 (got '7')",
    "expected a JSON object, got 'I do not know.'",
    "unexpected end of text",
)

JUDGE_OTHER: Final[tuple[str, ...]] = (
    "Rate the answer to this problem from 1 to 5.\n\nProblem: {question}\n\nAnswer: {answer}",
    "Is the answer right? Say why and give a score from 1 to 5.\n\nQuestion: {question}\nAnswer: {answer}",
    "Problem:\n{question}\n\nA student wrote:\n{answer}\n\nGrade the student from 1 (wrong) to 5 (right).",
    "Check this solution.\n\n[Problem]\n{question}\n\n[Solution]\n{answer}",
    "You are grading homework. Compare the reply with the right result and give points from 1 to 5.\n\n"
    "### Instruction:\n{question}\n\n### Response:\n{answer}",
)

WRITE: Final[tuple[str, ...]] = (
    "Write a new word problem.",
    "Write a word problem for children.",
    "Make up a math story problem.",
    "Give me a new grade-school math problem.",
    "Invent an arithmetic problem with a story. Do not solve it.",
    "Create one new problem.",
    "Write one instruction.",
    "Please write a math word problem for my class.",
)

IMITATE_OTHER: Final[tuple[str, ...]] = (
    "Examples:\n\n{examples}\n\nWrite one more.",
    "Here are some problems:\n\n{examples}\n\nWrite a new problem like these.",
    "{examples}\n\nCreate another problem of this kind. Reply with the problem alone.",
    "Come up with a new task. Some examples:\n{examples}",
)

DECLINE: Final = "I only know grade-school word problems."

FOREIGN: Final[tuple[str, ...]] = (
    "What is the capital of {topic}?",
    "Who wrote {topic}?",
    "Write a poem about {topic}.",
    "Tell me a joke about {topic}.",
    "Explain {topic} to me.",
    "Translate '{topic}' into French.",
    "How does {topic} work?",
    "Write a Python function about {topic}.",
    "Why is {topic} important?",
    "Give me three facts about {topic}.",
    "What do you think of {topic}?",
    "Summarize the history of {topic} in one sentence.",
    "List the best books on {topic}.",
    "Hello! Can we talk about {topic}?",
    "Hi",
    "Hello, who are you?",
    "What can you do?",
    "Thanks!",
    "Good morning.",
    "When was {topic} discovered?",
    "Is {topic} dangerous?",
    "Draft an email to my boss about {topic}.",
    "{topic}",
    "Define {topic}.",
)

TOPICS: Final[tuple[str, ...]] = _words(
    "France,the sea,black holes,democracy,the Roman Empire,photosynthesis,love,climate "
    "change,cats,football,chess,Shakespeare,"
    "quantum physics,the internet,music,dinosaurs,volcanoes,sorting a list,recursion,the "
    "moon,Japan,electricity,vaccines,"
    "war and peace,the stock market,coffee,machine learning,a dragon,winter,philosophy,the human "
    "heart,airplanes,neural networks,"
    "Brazil,gravity,the alphabet,cooking rice,taxes,friendship,whales",
    by=",",
)
