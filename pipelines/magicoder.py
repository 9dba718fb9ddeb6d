"""Magicoder: snippets of real code inspire programming problems, each with its solution.

One to fifteen consecutive lines, from a random start, are shown to the teacher, which writes a self-contained problem
and a solution. Broken code fences, repetitions, and what touches an evaluation set are filtered.

    synthkd run pipelines/magicoder.py --seeds code.jsonl --teacher openai:gpt-4.1-mini
    synthkd run pipelines/magicoder.py -p folder=src --teacher openai:qwen3@http://127.0.0.1:8000/v1

Reference: Wei et al. 2023, Magicoder (OSS-Instruct), arXiv:2312.02120: 80,000 snippets, 75,000 rows left.
"""

from collections.abc import Iterable
from pathlib import Path

from synthkd import Document, Instruction, Run, Sampling, data
from synthkd.errors import ConfigError
from synthkd.filters import decontaminate, dedup, every, formatted
from synthkd.seeds import snippets
from synthkd.strategies import FromCode


def pipeline(
    run: Run,
    seeds: Path | None = None,
    folder: Path | None = None,
    each: int = 1,
    evaluation: Path | None = None,
    max_tokens: int = 2500,
    limit: int | None = None,
) -> None:
    """Cut snippets, ask for problems and solutions, filter, save.

    Args:
        seeds: rows with `text`, a source file each.
        folder: source files instead: every `*.py` below it.
        each: snippets from one file.
        evaluation: rows with `prompt` that must not turn up in what is made, such as HumanEval's.
        max_tokens: of one reply.
        limit: use only the first so many files.
    """
    files = _files(seeds, folder, limit)
    inspired = run.map(
        FromCode(sampling=Sampling(temperature=0.0, max_tokens=max_tokens)),
        snippets(files, each, lines=(1, 15), seed=run.seed),
    )
    rules = [formatted(code=True), dedup.exact(of="prompt"), dedup.exact(of="completion")]
    if evaluation is not None:
        rules.append(decontaminate({"evaluation": data.read(evaluation, Instruction)}))
    run.save(run.filter(every(*rules), inspired))


def _files(seeds: Path | None, folder: Path | None, limit: int | None) -> Iterable[Document]:
    if (seeds is None) == (folder is None):
        raise ConfigError("give either seeds (rows with `text`) or folder (source files)")
    if seeds is not None:
        return data.read(seeds, Document, limit=limit)
    paths = sorted(folder.rglob("*.py"))[:limit] if folder else []
    return [Document(text=path.read_text(encoding="utf-8"), source=str(path)) for path in paths]
