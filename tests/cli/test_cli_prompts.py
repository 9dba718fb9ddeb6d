"""`synthkd prompts`: templates, and what they render to."""

from __future__ import annotations

import json

import pytest
from commandline import cli, written

from synthkd.prompt import Prompt
from synthkd.templates import builtin_names

MINE = (
    "{# variables: instruction, answer, many; source: mine #}\n"
    "{% block system %}Be kind.{% endblock %}\n"
    "{% block user_1 %}Hello{% endblock %}{% block assistant_1 %}Hi{% endblock %}\n"
    "{% block user %}{{ instruction }} -> {{ answer }}{% for one in many %} ({{ one }}){% endfor %}{% endblock %}\n"
)


def test_list_names_every_built_in_prompt_with_its_variables_and_source() -> None:
    result = cli("prompts", "list")
    assert result.exit_code == 0
    for name in builtin_names():
        line = next(line for line in result.stdout.splitlines() if line.strip().startswith(f"{name} "))
        assert ", ".join(Prompt(name, str).variables) in line


def test_show_prints_the_file_itself_and_nothing_else() -> None:
    result = cli("prompts", "show", "feedback/rate")
    assert result.stdout.rstrip("\n") == Prompt("feedback/rate", str).text.rstrip("\n")
    assert Prompt("feedback/rate", str).label in result.stderr


def test_an_unknown_name_is_a_sentence_with_the_near_ones() -> None:
    result = cli("prompts", "show", "feedback/rat")
    assert result.exit_code == 2
    assert "Did you mean" in result.stderr
    assert "'feedback/rate'" in result.stderr


def test_render_prints_the_messages_by_role() -> None:
    path = written("mine.jinja", MINE)
    result = cli("prompts", "render", path, "-v", "instruction=1 = 1?", "-v", "answer=[yes", "-v", 'many=["a", "b"]')
    assert result.exit_code == 0, result.output
    assert result.stdout.split("\n\n") == [
        "[system]\nBe kind.",
        "[user]\nHello",
        "[assistant]\nHi",
        "[user]\n1 = 1? -> [yes (a) (b)",
        "",
    ]


def test_render_takes_variables_from_a_row_of_a_file() -> None:
    rows = [{"prompt": "first?", "answer": "1"}, {"prompt": "second?", "answer": "2", "other": 3}]
    written("rows.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    assert "second?" in cli("prompts", "render", "feedback/rate", "--record", "rows.jsonl:2").stdout
    result = cli("prompts", "render", "feedback/rate", "--record", "rows.jsonl", "-v", "answer=mine")
    assert "first?" in result.stdout
    assert "[Answer]\nmine" in result.stdout


def test_render_takes_conversations_and_columns_of_other_names() -> None:
    turns = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "ho"},
        {"role": "user", "content": "he?"},
    ]
    written("rows.json", json.dumps([{"question": "why?"}, {"prompt": turns}]))
    named = cli("prompts", "render", "labeling/answer", "--record", "rows.json:1", "--field", "prompt=question")
    assert named.stdout == "[user]\nwhy?\n\n"
    assert cli("prompts", "render", "labeling/answer", "--record", "rows.json:2").stdout == "[user]\nhe?\n\n"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["-v", "instruction=x"], "wants 'answer', which is not given"),
        (["-v", "instruction=x", "-v", "answer=y", "-v", "more=z"], "was given 'more', which it does not use"),
        (["-v", "instruction"], "expected -v NAME=VALUE"),
        (["-v", "answer=x", "-v", "answer=y"], "'answer' is given twice"),
        (["--record", "rows.jsonl:9"], "has no row 9"),
        (["--record", "rows.jsonl:0"], "has no row 0"),
        (["--record", "elsewhere.jsonl"], "elsewhere.jsonl"),
        (["--record", "rows.jsonl", "--field", "prompt=quest"], "quest"),
    ],
)
def test_what_does_not_fit_is_a_sentence(given: list[str], said: str) -> None:
    written("rows.jsonl", '{"question": "x"}\n')
    result = cli("prompts", "render", "feedback/rate", *given)
    assert result.exit_code == 2
    assert said in result.stderr
    assert "Traceback" not in result.stderr
