"""What changes make a run ask again, and what changes do not: counted at the server."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from loopback import Call, Loopback
from pydantic import BaseModel, Field, field_validator

from synthkd.ask import Ask
from synthkd.prompt import Prompt
from synthkd.record import Demonstration, Instruction
from synthkd.request import Policy, Sampling
from synthkd.run import Run
from synthkd.strategies import Answer, Rank, Sample
from synthkd.teachers import OpenAITeacher

Serve = Callable[..., Loopback]
TEMPLATE = """{# variables: instruction; source: a test #}
{% block system %}You are brief.{% endblock %}
{% block user %}{{ instruction }}{% endblock %}
"""
TEXTS = ("one", "two", "three", "four", "five")


class Verdict(BaseModel):
    """A typed reply."""

    why: str = Field(description="Why so.")
    score: int = Field(ge=1, le=5)


class Pipeline:
    """Two stages, answer and judge, whose every part a test can change between two runs on the same folder."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder, self.url = folder / "run", url
        self.answer, self.judge = folder / "answer.jinja", folder / "judge.jinja"
        self.answer.write_text(TEMPLATE)
        self.judge.write_text(
            TEMPLATE.replace("brief", "strict").replace("{{ instruction }}", "Judge: {{ instruction }}")
        )
        self.texts: Sequence[str] = TEXTS
        self.reply: type[Any] = Verdict
        self.sampling, self.policy, self.n = Sampling(temperature=0.7), Policy(), 2
        self.model = "m"
        self.teacher: dict[str, Any] = {}
        self.options: dict[str, Any] = {}

    def __call__(self) -> list[Demonstration]:
        teacher = OpenAITeacher(self.model, base_url=self.url, **self.teacher)
        teacher.limits = replace(teacher.limits, longest_wait=0.01)
        sample = Sample(self.n, prompt=Prompt(self.answer, str), sampling=self.sampling, policy=self.policy)
        judge: Prompt[Any] = Prompt(self.judge, self.reply)

        async def judged(record: Any, ask: Ask) -> list[Demonstration]:
            verdict = await ask(judge.render(instruction=record.instruction, policy=self.policy))
            return [Demonstration(prompt=record.prompt, completion=f"{record.completions} {verdict.score}")]

        with Run(self.folder, teacher=teacher, quiet=True, **self.options) as run:
            return list(run.map(judged, run.map(sample, [Instruction(prompt=text) for text in self.texts])))


@pytest.fixture
def pipeline(serve: Serve, tmp_path: Path) -> tuple[Pipeline, Loopback]:
    """The pipeline after its first run, and its server, which has forgotten that run."""
    server = serve()
    made = Pipeline(tmp_path, server.url)
    assert len(made()) == 5
    assert len(server.calls) == 10
    server.forget()
    return made, server


def answering(calls: Sequence[Call]) -> list[str]:
    """The prompts of those calls that the first stage made."""
    return sorted(call.prompt for call in calls if call.schema is None)


def judging(calls: Sequence[Call]) -> list[str]:
    """The prompts of those calls that the second stage made."""
    return sorted(call.prompt.removeprefix("Judge: ") for call in calls if call.schema is not None)


def test_the_same_program_on_the_same_folder_asks_nothing(pipeline: tuple[Pipeline, Loopback]) -> None:
    run, server = pipeline
    assert len(run()) == 5
    assert server.calls == []


def test_a_new_system_prompt_asks_its_own_stage_again_and_the_old_one_back_asks_nothing(
    pipeline: tuple[Pipeline, Loopback],
) -> None:
    run, server = pipeline
    run.answer.write_text(TEMPLATE.replace("brief", "verbose"))
    run()
    assert (answering(server.calls), judging(server.calls)) == (sorted(TEXTS), [])
    server.forget()
    run.answer.write_text(TEMPLATE)
    run()
    assert server.calls == []


def test_a_template_edit_asks_again_what_it_renders_and_nothing_else(pipeline: tuple[Pipeline, Loopback]) -> None:
    run, server = pipeline
    run.judge.write_text(run.judge.read_text().replace("Judge: ", "Judge: well, "))
    run()
    assert (answering(server.calls), len(judging(server.calls))) == ([], 5)


def test_a_template_edit_that_the_teacher_does_not_see_asks_nothing(pipeline: tuple[Pipeline, Loopback]) -> None:
    run, server = pipeline
    run.answer = run.answer.rename(run.answer.with_name("renamed.jinja"))
    run.answer.write_text(TEMPLATE.replace("source: a test", "source: another comment"))
    run()
    assert server.calls == []


def test_another_base_url_or_model_asks_everything_there(pipeline: tuple[Pipeline, Loopback], serve: Serve) -> None:
    run, server = pipeline
    other = serve()
    run.url = other.url
    run()
    assert (len(server.calls), len(other.calls)) == (0, 10)
    run.url, run.model = server.url, "m2"
    run()
    assert (len(server.calls), len(other.calls)) == (10, 10)


def test_a_changed_row_asks_for_that_row_and_a_moved_or_dropped_one_for_nothing(
    pipeline: tuple[Pipeline, Loopback],
) -> None:
    run, server = pipeline
    run.texts = ("one", "2", "three", "four", "five")
    run()
    assert (answering(server.calls), judging(server.calls)) == (["2"], ["2"])
    server.forget()
    run.texts = ("five", "2", "one")
    rows = run()
    assert [row.prompt for row in rows] == ["five", "2", "one"]
    assert server.calls == []


def test_a_changed_reply_schema_asks_its_own_calls_again(pipeline: tuple[Pipeline, Loopback]) -> None:
    class Verdict(BaseModel):
        """A typed reply."""

        why: str = Field(description="Say exactly why.")
        score: int = Field(ge=1, le=5)

    run, server = pipeline
    run.reply = Verdict
    run()
    assert (answering(server.calls), judging(server.calls)) == ([], sorted(TEXTS))


def test_changed_sampling_asks_its_own_calls_again_and_a_third_draw_only_the_third(
    pipeline: tuple[Pipeline, Loopback],
) -> None:
    run, server = pipeline
    run.n = 3
    run()
    assert [(call.n, call.schema) for call in server.calls] == [(1, None)] * 5
    server.forget()
    run.n, run.sampling = 2, Sampling(temperature=0.9)
    run()
    assert (answering(server.calls), judging(server.calls)) == (sorted(TEXTS), [])
    server.forget()
    run.teacher = {"sampling": Sampling(max_tokens=99)}  # a default of the teacher's is seen by the teacher as well
    run()
    assert len(server.calls) == 10


@pytest.mark.parametrize(
    ("teacher", "options"),
    [
        ({"timeout": 7.0}, {}),
        ({"max_in_flight": 3}, {}),
        ({"tries": 2}, {}),
        ({"api_key": "sk-another"}, {}),
        ({"headers": {"X-Title": "another"}}, {}),
        ({}, {"records_in_flight": 2}),
        ({}, {"seed": 9}),
        ({}, {"about": {"pipeline": "another"}}),
    ],
)
def test_timeouts_limits_tries_keys_and_the_run_s_own_options_ask_nothing(
    pipeline: tuple[Pipeline, Loopback], teacher: dict[str, Any], options: dict[str, Any]
) -> None:
    run, server = pipeline
    run.teacher, run.options = teacher, options
    assert len(run()) == 5
    assert server.calls == []


def test_another_policy_asks_nothing(pipeline: tuple[Pipeline, Loopback]) -> None:
    run, server = pipeline
    run.policy = Policy(truncated="keep", refused="keep", empty="keep", repairs=5)
    run()
    assert server.calls == []


def test_another_parser_for_the_same_schema_asks_nothing_and_reads_the_old_replies(
    pipeline: tuple[Pipeline, Loopback],
) -> None:
    class Verdict(BaseModel):
        """A typed reply."""

        why: str = Field(description="Why so.")
        score: int = Field(ge=1, le=5)

        @field_validator("score")
        @classmethod
        def _always_five(cls, _: int) -> int:
            return 5

    run, server = pipeline
    run.reply = Verdict
    assert {row.completion[-1] for row in run()} == {"5"}
    assert server.calls == []


def test_credentials_in_the_url_are_no_part_of_what_was_asked(pipeline: tuple[Pipeline, Loopback]) -> None:
    run, server = pipeline
    run.url = run.url.replace("http://", "http://me:secret@")
    run()
    assert server.calls == []


def test_equal_requests_in_flight_and_in_later_stages_are_one_call(serve: Serve, tmp_path: Path) -> None:
    server = serve()
    with Run(tmp_path, teacher=OpenAITeacher("m", base_url=server.url), quiet=True) as run:
        twins = [Instruction(prompt="same", meta={"i": i}) for i in range(20)]
        first, second = run.map(Answer(), twins), run.map(Answer(), twins)
        assert {row.completion for row in (*first, *second)} == {"answer 0 to: same"}
        assert (len(first), len(second)) == (20, 20)
    assert len(server.calls) == 1


def test_a_judge_of_its_own_is_asked_again_alone_when_it_changes(serve: Serve, tmp_path: Path) -> None:
    teacher, judges = serve(), [serve(), serve()]
    for judge in judges:
        roles = {name: OpenAITeacher("m", base_url=s.url) for name, s in (("teacher", teacher), ("judge", judge))}
        with Run(tmp_path, quiet=True, **roles) as run:
            run.map(Rank(), run.map(Sample(3), [Instruction(prompt="hello")]))
    assert [len(server.calls) for server in (teacher, *judges)] == [1, 3, 3]
