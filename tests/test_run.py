"""A run: nothing vanishes, nothing is paid for twice, and what goes wrong is heard by the one who can mend it."""

import asyncio
import gc
import json
import logging
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow.parquet import read_table

from synthkd.ask import Ask
from synthkd.errors import (
    ConfigError,
    PromptError,
    RecordError,
    Refused,
    RunError,
    RunFolderError,
    RunLocked,
    TeacherError,
    TeacherUnavailable,
    Transient,
    UnknownTeacher,
)
from synthkd.prompt import Prompt
from synthkd.record import Demonstration, Instruction, Record
from synthkd.report import read_report
from synthkd.request import Completion, Limits, Message, Request, Sampling
from synthkd.run import Run
from synthkd.strategies import Answer, Sample, SelfConsistency
from synthkd.testing import FunctionTeacher

ANSWER = Prompt("labeling/answer", str)


def seeds(texts: Iterable[object]) -> list[Instruction]:
    return [Instruction(prompt=str(text)) for text in texts]


def asked(request: Request[Any]) -> str:
    return request.messages[-1].content


async def answer(record: Instruction, ask: Ask) -> list[Demonstration]:
    return [Demonstration(prompt=record.prompt, completion=await ask(ANSWER.fill(record)))]


async def judged(record: Record, ask: Ask) -> list[Record]:
    await ask(Request((Message("user", "fine?"),), str))
    return [Demonstration(prompt="x", completion=record.id)]


async def passing(record: Record, ask: Ask) -> list[Record]:
    return [record]


Open = Callable[..., Run]


@pytest.fixture
def open_run(tmp_path: Path) -> Iterator[Open]:
    """Opens runs on one folder, or on the one named."""
    opened: list[Run] = []

    def start(teacher: Any = None, folder: str = "run", **more: Any) -> Run:
        opened.append(Run(tmp_path / folder, teacher=teacher, quiet=True, **more))
        return opened[-1]

    yield start
    for run in opened:
        run.close()


@pytest.fixture(scope="module")
def one_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """A run that many examples share, a stage each."""
    with Run(tmp_path_factory.mktemp("runs") / "shared", quiet=True) as run:
        yield run


@pytest.fixture(autouse=True, scope="module")
def _nothing_is_left_unheard() -> Iterator[None]:
    """asyncio logs exceptions that nobody retrieved and tasks that nobody awaited: there are none."""
    heard: list[str] = []
    listener = logging.Handler(logging.WARNING)
    listener.emit = lambda record: heard.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("asyncio").addHandler(listener)
    yield
    gc.collect()
    logging.getLogger("asyncio").removeHandler(listener)
    assert heard == []


# The ledger.


@dataclass(frozen=True)
class Scripted:
    """A strategy that does to each text what the script says, after as many turns of the loop."""

    script: dict[str, tuple[int, str | tuple[str, ...]]]

    async def __call__(self, record: Instruction, ask: Ask) -> Sequence[Record]:
        turns, deed = self.script[record.instruction]
        for _ in range(turns):
            await asyncio.sleep(0)
        if isinstance(deed, str):
            raise RecordError(f"{deed}: {record.prompt}", reason=deed)
        return [self.made(record, k, kind) for k, kind in enumerate(deed)]

    @staticmethod
    def made(record: Instruction, k: int, kind: str) -> Record:
        match kind:
            case "itself":
                return record
            case "constant":
                return Demonstration(prompt="always", completion="the same")
            case "linked":
                return Demonstration(prompt=record.prompt, completion=f"{k}", parents=("f" * 20, record.id))
            case _:
                return Demonstration(prompt=record.prompt, completion=f"{k}", parents=("e" * 20,))


deeds = st.sampled_from(["tie", "refused", "rejected"]) | st.lists(
    st.sampled_from(["itself", "constant", "linked", "other"]), max_size=3
).map(tuple)
scripts = st.fixed_dictionaries({text: st.tuples(st.integers(0, 4), deeds) for text in "abcd"})


@settings(deadline=None, derandomize=True, max_examples=100)
@given(scripts, st.lists(st.sampled_from("abcd"), max_size=24), st.sampled_from([1, 2, 3, 1024]), st.booleans())
def test_every_input_is_a_parent_or_a_reject_and_all_stand_in_input_order(
    one_run: Run, script: dict[str, Any], texts: list[str], width: int, lazily: bool
) -> None:
    one_run._width = width
    records = seeds(texts)
    stage = one_run.map(Scripted(script), iter(records) if lazily else records)
    rows: list[tuple[str, tuple[str, ...]]] = []
    rejects: list[tuple[str, str]] = []
    for record in records:
        deed = script[record.instruction][1]
        if isinstance(deed, str) or not deed:
            rejects.append((record.id, deed or "no output"))
            continue
        for k, kind in enumerate(deed):
            output = Scripted.made(record, k, kind)
            linked = kind == "itself" or record.id in output.parents
            rows.append((output.id, output.parents if linked else (record.id, *output.parents)))
    assert [(row.id, row.parents) for row in stage] == rows
    assert [(reject.id, reject.reason) for reject in stage.rejects] == rejects
    ledger = stage.ledger
    assert (ledger.records_in, ledger.records_out) == (len(records), len(rows))
    assert sum(ledger.rejected.values()) == len(rejects)
    children = {row.id for row in stage} | {parent for row in stage for parent in row.parents}
    assert all((record.id in children) != (record.id in dict(rejects)) for record in records)


def test_a_stage_of_no_records_is_an_empty_stage(open_run: Open) -> None:
    stage = open_run().map(passing, [])
    assert (len(stage), stage.ledger.records_in) == (0, 0)


def test_a_strategy_that_gives_none_back_has_rejected_its_record(open_run: Open) -> None:
    async def nothing(record: Instruction, ask: Ask) -> Any:
        return None

    assert open_run().map(nothing, seeds("a")).ledger.rejected == {"no output": 1}


def test_input_is_read_as_places_become_free(open_run: Open) -> None:
    read, done, ahead = 0, 0, 0

    def source() -> Iterator[Instruction]:
        nonlocal read, ahead
        for record in seeds(range(200)):
            read += 1
            ahead = max(ahead, read - done)
            yield record

    async def slow(record: Instruction, ask: Ask) -> list[Instruction]:
        nonlocal done
        await asyncio.sleep(0)
        done += 1
        return [record]

    assert len(open_run(records_in_flight=5).map(slow, source())) == 200
    assert ahead <= 6


def test_stages_follow_one_another_by_name_and_equal_names_are_numbered(open_run: Open) -> None:
    class Evolve:
        async def __call__(self, record: Instruction, ask: Ask) -> list[Instruction]:
            return [record]

    run = open_run()
    made = [
        run.map(passing, seeds("a")),
        run.map(passing, seeds("a")),
        run.map(Evolve(), seeds("a")),
        run.map(passing, seeds("a"), name="final"),
        run.map(passing, seeds("a"), name="passing"),
    ]
    assert [stage.name for stage in made] == ["passing", "passing-2", "evolve", "final", "passing-3"]
    assert [stage.number for stage in made] == [1, 2, 3, 4, 5]


def test_one_stage_feeds_the_next_and_provenance_adds_up(open_run: Open) -> None:
    teacher, judge = FunctionTeacher(lambda _: "x", "t"), FunctionTeacher(lambda _: "y", "j")

    async def judged(record: Demonstration, ask: Ask) -> list[Demonstration]:
        return [Demonstration(prompt=record.prompt, completion=await ask(ANSWER.fill(record), "judge"))]

    run = open_run(teacher, judge=judge)
    first = run.map(answer, seeds("ab"))
    second = run.map(judged, first)
    kept = run.map(passing, second)
    assert [numbers for _, numbers in first.items()] == [(1,), (1,)]
    assert [numbers for _, numbers in kept.items()] == [(1, 2), (1, 2)]
    assert [row.parents for row in second] == [(row.id,) for row in first]


# Nothing is paid for twice.


def test_a_second_run_makes_no_call_and_gives_the_same_rows(open_run: Open) -> None:
    rows = []
    for calls in (30, 0):
        teacher = FunctionTeacher(lambda request: f"answer to {asked(request)}")
        with open_run(teacher) as run:
            rows.append(list(run.map(answer, seeds(range(30)))))
        assert len(teacher.calls) == calls
    assert rows[0] == rows[1]


def test_equal_records_are_asked_once_and_each_gets_its_row(open_run: Open) -> None:
    teacher = FunctionTeacher(lambda request: f"answer to {asked(request)}")
    stage = open_run(teacher).map(answer, seeds("abab" * 20))
    assert [row.completion for row in stage] == ["answer to a", "answer to b"] * 40
    assert len(teacher.calls) == 2


def test_a_failing_call_rejects_all_records_that_share_it_and_is_owed_at_the_next_run(open_run: Open) -> None:
    async def broken(request: Request[Any]) -> str:
        await asyncio.sleep(0.01)
        if asked(request) == "b":
            raise TeacherError("400: no")
        return "x"

    teacher = FunctionTeacher(broken)
    with open_run(teacher) as run:
        stage = run.map(answer, seeds("abab"))
        assert stage.ledger.rejected == {"teacher error": 2}
        assert [reject.detail for reject in stage.rejects] == ["400: no"] * 2
    assert len(teacher.calls) == 2
    healthy = FunctionTeacher(lambda _: "x")
    assert len(open_run(healthy).map(answer, seeds("abab"))) == 4
    assert [asked(call) for call in healthy.calls] == ["b"]


async def twice(record: Instruction, ask: Ask) -> list[Demonstration]:
    """Asks, and asks again with what came back and a random number."""
    first = await ask(ANSWER.render(instruction=record.instruction))
    second = await ask(ANSWER.render(instruction=f"{first} and {ask.rng.randrange(1000)}"))
    return [Demonstration(prompt=record.prompt, completion=second)]


@pytest.mark.parametrize("last", [0, 1, 7, 23, 39])
@pytest.mark.parametrize("death", [ZeroDivisionError, TeacherUnavailable])
def test_a_run_that_died_anywhere_goes_on_as_if_nothing_had_happened(
    open_run: Open, last: int, death: type[Exception]
) -> None:
    def teacher(lives: int) -> tuple[FunctionTeacher, list[str]]:
        answered: list[str] = []
        rng = random.Random(0)

        async def reply(request: Request[Any]) -> str:
            await asyncio.sleep(rng.random() / 500)
            if len(answered) == lives:
                raise death("the end")
            answered.append(asked(request))
            return f"<{asked(request)}>"

        return FunctionTeacher(reply), answered

    texts = seeds(range(20))
    mortal, before = teacher(last)
    with open_run(mortal, records_in_flight=6) as run, pytest.raises(death, match="the end"):
        run.map(twice, texts)
    healthy, after = teacher(1000)
    rows = list(open_run(healthy).map(twice, texts))
    undisturbed, needed = teacher(1000)
    assert rows == list(open_run(undisturbed, "another folder").map(twice, texts))
    assert len(before) + len(after) == len(needed) == 40
    assert sorted(before + after) == sorted(needed)


def test_chance_depends_on_record_and_seed_and_not_on_order_or_company(open_run: Open) -> None:
    async def draw(record: Instruction, ask: Ask) -> list[Instruction]:
        await asyncio.sleep(0)
        return [Instruction(prompt=f"{record.prompt} {ask.rng.random()}")]

    first = [row.prompt for row in open_run(folder="1", seed=1).map(draw, seeds("abc"))]
    again = [row.prompt for row in open_run(folder="2", seed=1, records_in_flight=1).map(draw, seeds("cba"))]
    other = [row.prompt for row in open_run(folder="3", seed=2).map(draw, seeds("abc"))]
    assert again == first[::-1]
    assert len({row.split()[1] for row in first}) == 3
    assert not set(other) & set(first)


def test_work_that_a_strategy_left_behind_does_not_disturb_the_next_stage(open_run: Open) -> None:
    """A strategy that fails by `gather` leaves its other calls flying; they were once in the way of the next stage."""
    rng = random.Random(0)

    async def reply(request: Request[Any]) -> str:
        if "bad" in asked(request):
            raise TeacherError("400")
        await asyncio.sleep(rng.random() / 4)
        return "x"

    async def hasty(record: Instruction, ask: Ask) -> list[Instruction]:
        parts = ["bad", *range(8)]
        await asyncio.gather(*(ask(ANSWER.render(instruction=f"{record.prompt} {part}")) for part in parts))
        return [record]

    run = open_run(FunctionTeacher(reply, limits=Limits("here", max_in_flight=5000)))
    assert run.map(hasty, seeds(range(100))).ledger.rejected == {"teacher error": 100}
    for _ in range(40):
        assert len(run.map(passing, seeds("ab"))) == 2


# Who hears what.


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (Completion("once upon", finish_reason="length"), "truncated"),
        (Completion("", refusal="I can't."), "refused"),
        (Completion("filtered", finish_reason="content_filter"), "refused"),
        (Completion("  "), "empty reply"),
    ],
)
def test_an_unusable_reply_rejects_its_record_under_its_own_reason(
    open_run: Open, said: Completion, reason: str
) -> None:
    teacher = FunctionTeacher(lambda request: said if asked(request) == "b" else "fine")
    stage = open_run(teacher).map(answer, seeds("abc"))
    assert [row.prompt for row in stage] == ["a", "c"]
    assert stage.ledger.rejected == {reason: 1}


def test_a_bug_in_a_strategy_stops_the_run_with_its_own_traceback_and_says_where(open_run: Open) -> None:
    async def buggy(record: Instruction, ask: Ask) -> list[Instruction]:
        return [{}["missing"]] if record.prompt == "c" else [record]

    with pytest.raises(KeyError, match="missing") as caught:
        open_run().map(buggy, seeds("abcd"))
    assert caught.value.__notes__ == [f"while stage 'buggy' worked on record {seeds('c')[0].id} (input 3)"]
    assert any(entry.name == "buggy" for entry in caught.traceback)


def test_a_bug_in_a_shared_call_says_once_where(open_run: Open) -> None:
    async def reply(_: Request[Any]) -> str:
        await asyncio.sleep(0.01)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as caught:
        open_run(FunctionTeacher(reply)).map(answer, seeds("a" * 10))
    assert len(caught.value.__notes__) == 1


@pytest.mark.parametrize(
    "outputs", [Instruction(prompt="x"), "text", ["text"], (n for n in ()), {"a": 1}], ids=lambda o: type(o).__name__
)
def test_a_strategy_that_gives_back_no_list_of_records_is_a_bug_that_says_where(open_run: Open, outputs: Any) -> None:
    async def wrong(record: Instruction, ask: Ask) -> Any:
        return outputs

    with pytest.raises(TypeError, match="expected a list of records") as caught:
        open_run().map(wrong, seeds("a"))
    assert "stage 'wrong'" in caught.value.__notes__[0]


def test_a_stop_of_the_run_comes_out_unwrapped_and_keeps_what_is_finished(open_run: Open) -> None:
    async def reply(request: Request[Any]) -> str:
        if asked(request) == "z":
            await asyncio.sleep(0.02)
            raise TeacherUnavailable("401: wrong key")
        return "x"

    teacher = FunctionTeacher(reply)
    with open_run(teacher) as run, pytest.raises(TeacherUnavailable, match="401: wrong key") as caught:
        run.map(answer, seeds("abcz"))
    assert not hasattr(caught.value, "__notes__")
    healthy = FunctionTeacher(lambda _: "x")
    assert len(open_run(healthy).map(answer, seeds("abcz"))) == 4
    assert [asked(call) for call in healthy.calls] == ["z"]


async def grouped(record: Instruction, ask: Ask) -> list[Instruction]:
    async with asyncio.TaskGroup() as group:
        for part in ("one", "two", "three"):
            group.create_task(ask(ANSWER.render(instruction=f"{record.prompt} {part}")))
    return [record]


@pytest.mark.parametrize("error", [TeacherUnavailable("401"), ZeroDivisionError("bug"), PromptError("broken")])
def test_a_strategy_s_task_group_wraps_no_failure_that_stops_the_run(open_run: Open, error: Exception) -> None:
    def reply(request: Request[Any]) -> str:
        raise error if asked(request) == "a two" else TeacherError("400")

    with pytest.raises(type(error), match=str(error)):
        open_run(FunctionTeacher(reply)).map(grouped, seeds("a"))


def test_a_strategy_s_task_group_that_fails_for_one_record_rejects_that_record(open_run: Open) -> None:
    def reply(request: Request[Any]) -> str:
        if asked(request) == "b two":
            raise Refused("no")
        return "x"

    stage = open_run(FunctionTeacher(reply)).map(grouped, seeds("abc"))
    assert stage.ledger.rejected == {"refused": 1}
    assert len(stage) == 2


def test_a_strategy_s_own_timeout_does_not_fail_others_that_share_the_call(open_run: Open) -> None:
    started = asyncio.Event()

    async def reply(_: Request[Any]) -> str:
        started.set()
        await asyncio.sleep(3600 if len(teacher.calls) == 1 else 0.01)
        return "x"

    async def hasty(record: Instruction, ask: Ask) -> list[Demonstration]:
        request = ANSWER.render(instruction="the same for all")
        if record.prompt == "hasty":
            try:
                async with asyncio.timeout(0.03):
                    await ask(request)
            except TimeoutError:
                raise RecordError("took too long", reason="slow") from None
        await started.wait()
        return [
            Demonstration(prompt=record.prompt, completion=await ask(ANSWER.render(instruction="the same for all")))
        ]

    teacher = FunctionTeacher(reply)
    stage = open_run(teacher).map(hasty, seeds(["hasty", "a", "b", "c"]))
    assert [row.completion for row in stage] == ["x"] * 3
    assert stage.ledger.rejected == {"slow": 1}
    assert len(teacher.calls) == 2


def test_after_a_stop_the_run_can_go_on_with_another_stage(open_run: Open) -> None:
    run = open_run(FunctionTeacher(lambda _: str(1 / 0)))
    with pytest.raises(ZeroDivisionError):
        run.map(answer, seeds("abc"))
    assert [row.prompt for row in run.map(passing, seeds("abc"))] == ["a", "b", "c"]


# Before anything is paid for.


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (
            "{# variables: instruction; source: t #}{% block user %}{{ instruction }} {{ topic }}{% endblock %}",
            "'topic'",
        ),
        ("{# variables: instruction, topic; source: t #}{% block user %}{{ instruction }}{% endblock %}", "'topic'"),
    ],
    ids=["undeclared", "unused"],
)
def test_a_template_with_a_wrong_variable_is_refused_before_any_call(tmp_path: Path, body: str, said: str) -> None:
    path = tmp_path / "ask.jinja"
    path.write_text(body)
    with pytest.raises(ConfigError, match=said):
        Prompt(path, str)


def test_a_template_that_wants_what_records_do_not_have_is_refused_before_any_call(
    open_run: Open, tmp_path: Path
) -> None:
    path = tmp_path / "ask.jinja"
    path.write_text("{# variables: topic; source: t #}{% block user %}{{ topic }}{% endblock %}")
    prompt = Prompt(path, str)

    async def strategy(record: Instruction, ask: Ask) -> list[Instruction]:
        return [Instruction(prompt=await ask(prompt.fill(record)))]

    teacher = FunctionTeacher(lambda _: "x")
    with pytest.raises(PromptError, match="wants 'topic', which is not given"):
        open_run(teacher).map(strategy, seeds("abc"))
    assert teacher.calls == []


def test_a_strategy_that_refuses_the_first_record_asks_nobody_for_the_others(open_run: Open) -> None:
    class Picky:
        def check(self, record: Instruction) -> None:
            raise ConfigError(f"not with {record.prompt}")

        async def __call__(self, record: Instruction, ask: Ask) -> list[Demonstration]:
            return await answer(record, ask)

    teacher = FunctionTeacher(lambda _: "x")
    with pytest.raises(ConfigError, match="not with a"):
        open_run(teacher).map(Picky(), seeds("abc"))
    assert teacher.calls == []


def test_a_role_that_nobody_plays_is_heard_before_any_call(open_run: Open) -> None:
    async def strategy(record: Instruction, ask: Ask) -> list[Instruction]:
        return [Instruction(prompt=await ask(ANSWER.fill(record), "student"))]

    teacher = FunctionTeacher(lambda _: "x")
    with pytest.raises(UnknownTeacher, match="'student'"):
        open_run(teacher).map(strategy, seeds("abc"))
    assert teacher.calls == []


def test_inputs_that_are_no_records_say_how_to_read_a_file(open_run: Open) -> None:
    with pytest.raises(ConfigError, match=r"input 2 is a str, expected a Record: read files with synthkd\.data\.read"):
        open_run().map(passing, [*seeds("a"), "seeds.jsonl"])


def test_a_failure_of_the_input_comes_out_as_it_is(open_run: Open) -> None:
    def source() -> Iterator[Instruction]:
        yield from seeds("ab")
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        open_run().map(passing, source())


def test_a_role_given_something_that_is_no_teacher_is_refused_before_the_folder_is_made(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'gpt-4\.1-mini' names no teacher; expected one of: openai:MODEL"):
        Run(tmp_path / "run", judge="gpt-4.1-mini", quiet=True)  # type: ignore[arg-type]
    assert not (tmp_path / "run").exists()


def test_at_least_one_record_must_be_in_flight(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="records_in_flight=0"):
        Run(tmp_path / "run", records_in_flight=0, quiet=True)


# Roles.


async def who(record: Instruction, ask: Ask) -> list[Instruction]:
    roles = ("teacher", "judge", "student", "qwen")
    return [Instruction(prompt=" ".join([await ask(ANSWER.fill(record), role) for role in roles]))]


def test_roles_are_played_as_the_run_says_and_one_map_may_replace_some(open_run: Open) -> None:
    players = {name: FunctionTeacher(lambda _, name=name: name, name) for name in ("t", "s", "q", "trained")}
    run = open_run(players["t"], student=players["s"], roles={"qwen": players["q"]})
    stages = [
        run.map(who, seeds("a")),
        run.map(who, seeds("a"), student=players["trained"], judge=players["q"]),
        run.map(who, seeds("a")),
    ]
    assert [stage[0].prompt for stage in stages] == ["t t s q", "t q trained q", "t t s q"]


def test_a_teacher_of_one_map_is_given_back_with_the_others(open_run: Open) -> None:
    class Closing(FunctionTeacher):
        closed = 0

        async def aclose(self) -> None:
            self.closed += 1

    always, once = Closing(lambda _: "x"), Closing(lambda _: "y", "other")
    run = open_run(always, judge=always)
    run.map(answer, seeds("a"), teacher=once)
    run.close()
    run.close()
    assert (always.closed, once.closed) == (1, 1)


# Filters.


def short(records: Iterable[Instruction]) -> Iterator[str | None]:
    for record in records:
        yield None if len(record.instruction) < 3 else "too long"


def test_a_filter_keeps_records_as_they_are_and_drops_others_with_its_reason(open_run: Open) -> None:
    run = open_run(FunctionTeacher(lambda request: asked(request) * 2))
    answers = run.map(answer, seeds(["a", "bbb", "cc"]))
    kept = run.filter(short, answers)
    assert list(kept) == [answers[0], answers[2]]
    assert list(kept.items()) == [row for row in answers.items() if row[0].prompt != "bbb"]
    assert kept.ledger.rejected == {"too long": 1}
    [reject] = kept.rejects
    assert (reject.id, reject.reason, reject.body["completion"]) == (answers[1].id, "too long", "bbbbbb")


def repeated(records: Iterable[Instruction]) -> list[str | None]:
    """Looks at all records before it answers for the first."""
    everything = [record.prompt for record in records]
    return [None if everything.count(text) == 1 else "not alone" for text in everything]


@pytest.mark.parametrize("source", [list, iter], ids=["list", "iterator"])
def test_a_filter_may_look_at_the_whole_set_first(open_run: Open, source: Callable[[Any], Any]) -> None:
    stage = open_run().filter(repeated, source(seeds("abacd")))
    assert [row.prompt for row in stage] == ["b", "c", "d"]
    assert stage.ledger.rejected == {"not alone": 2}


@settings(deadline=None, derandomize=True, max_examples=40)
@given(st.lists(st.sampled_from([None, "bad", "worse"]), max_size=150), st.integers(0, 3))
def test_a_filter_that_looks_ahead_still_judges_each_record_for_itself(
    one_run: Run, verdicts: list[str | None], ahead: int
) -> None:
    def rule(records: Iterable[Instruction]) -> Iterator[str | None]:
        waiting: list[Instruction] = []
        for record in records:
            waiting.append(record)
            if len(waiting) > ahead:
                yield verdicts[int(waiting.pop(0).instruction)]
        yield from (verdicts[int(record.instruction)] for record in waiting)

    stage = one_run.filter(rule, seeds(range(len(verdicts))))
    assert [int(row.prompt) for row in stage] == [n for n, verdict in enumerate(verdicts) if verdict is None]
    assert [(int(reject.body["prompt"]), reject.reason) for reject in stage.rejects] == [
        (n, verdict) for n, verdict in enumerate(verdicts) if verdict is not None
    ]


def too_few(records: Iterable[Instruction]) -> Iterator[None]:
    for record in list(records)[1:]:
        assert record
        yield None


def ends_early(records: Iterable[Instruction]) -> Iterator[None]:
    waiting = iter(records)
    for _ in range(2):
        next(waiting)
        yield None


def silent(records: Iterable[Instruction]) -> Iterator[None]:
    return iter(())


def too_many(records: Iterable[Instruction]) -> Iterator[None]:
    yield from (None for _ in records)
    yield None


def before_reading(records: Iterable[Instruction]) -> list[None]:
    return [None, None, None]


@pytest.mark.parametrize("rule", [too_few, ends_early, silent, too_many, before_reading])
def test_a_filter_that_does_not_give_one_verdict_each_loses_no_record_but_stops(
    open_run: Open, rule: Callable[[Any], Any]
) -> None:
    with pytest.raises(ConfigError, match="must give one each, in order"):
        open_run().filter(rule, seeds("abc"))


@pytest.mark.parametrize("verdict", [True, False, 0.5])
def test_a_filter_that_says_true_or_false_is_told_of_each(open_run: Open, verdict: Any) -> None:
    with pytest.raises(ConfigError, match=rf"gave {verdict}.*synthkd\.filters\.each"):
        open_run().filter(lambda records: (verdict for _ in records), seeds("abc"))  # type: ignore[arg-type, misc]


# Where it runs, and how it ends.


def test_a_run_works_inside_a_running_event_loop(open_run: Open) -> None:
    async def main() -> list[str]:
        with open_run(FunctionTeacher(lambda _: "four")) as run:
            stage = run.filter(short, run.map(passing, run.map(answer, seeds("ab"))))
            return [row.completion for row in stage]

    assert asyncio.run(main()) == ["four", "four"]


def test_a_run_used_inside_its_own_strategy_is_an_error_and_no_deadlock(open_run: Open) -> None:
    run = open_run()

    async def inside(record: Instruction, ask: Ask) -> list[Instruction]:
        return list(run.map(passing, [record]))

    with pytest.raises(RuntimeError, match="inside one of its own strategies"):
        run.map(inside, seeds("a"))


def test_a_folder_is_one_run_s_at_a_time(open_run: Open) -> None:
    run = open_run()
    with pytest.raises(RunLocked, match="in use by another process"):
        open_run()
    run.close()
    open_run()


def test_who_opened_the_lock_before_it_was_given_back_holds_the_folder_alone(tmp_path: Path) -> None:
    fcntl = pytest.importorskip("fcntl")
    first = Run(tmp_path, quiet=True)
    with open(tmp_path / "run.lock", "r+b") as second:  # another process, between opening and locking
        first.close()
        fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with pytest.raises(RunLocked):
            Run(tmp_path, quiet=True)
    Run(tmp_path, quiet=True).close()


def test_a_lock_file_that_was_left_behind_keeps_nobody_out(tmp_path: Path) -> None:
    (tmp_path / "run.lock").write_text("12345\n")
    for _ in range(2):
        with Run(tmp_path, teacher=FunctionTeacher(lambda request: "x"), quiet=True) as run:
            assert len(run.map(Answer(), [Instruction(prompt="a")])) == 1


def test_a_damaged_folder_is_refused_and_not_left_locked(open_run: Open, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.db").write_bytes(b"no database at all, but longer than a header of one hundred bytes " * 9)
    with pytest.raises(RunFolderError, match="damaged") as caught:
        open_run()
    (tmp_path / "run" / "run.db").unlink()
    open_run()
    assert caught.value  # as a notebook does, the failure and all its frames are still held


def test_a_closed_run_takes_no_more_work_and_its_stages_say_where_to_read_them(open_run: Open) -> None:
    run = open_run()
    stage = run.map(passing, seeds("ab"))
    run.close()
    for use in (lambda: run.map(passing, seeds("a")), lambda: run.filter(short, seeds("a")), lambda: list(stage)):
        with pytest.raises(ConfigError, match="closed"):
            use()


def test_the_first_failure_is_the_one_that_is_heard(open_run: Open) -> None:
    class Dying(FunctionTeacher):
        async def aclose(self) -> None:
            raise TeacherUnavailable("and the rest as well")

    with pytest.raises(RunError, match="the first"), open_run(Dying(lambda _: "x")):
        raise RunError("the first")


def test_a_run_describes_itself_and_reports_what_became_of_it(open_run: Open, tmp_path: Path) -> None:
    failures = iter([Transient("500")])

    def reply(request: Request[Any]) -> str:
        for failure in failures:
            raise failure
        return "" if asked(request) == "b" else "x"

    with open_run(FunctionTeacher(reply, "model"), seed=7, about={"pipeline": "p.py"}) as run:
        described = json.loads((run.folder / "run.json").read_text())
        run.map(answer, seeds("abc"))
    assert described["roles"] == {"teacher": "model", "judge": "model"}
    assert (described["seed"], described["pipeline"]) == (7, "p.py")
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    [stage] = report["stages"]
    assert (stage["name"], stage["input"]) == ("answer", "list")
    assert (stage["records_in"], stage["records_out"], stage["rejected"]) == (3, 2, {"empty reply": 1})
    assert [(call["teacher"], call["completions"]) for call in report["calls"]] == [("model", 3)]
    assert report["this_process"] == {"calls": 3, "replayed": 0, "retries": 1, "repairs": 0}


HALF = "a\ud83d b"


def test_a_record_with_half_a_character_is_rejected_with_field_and_cure_and_the_others_go_on(open_run: Open) -> None:
    run = open_run(FunctionTeacher(asked))
    given = [Instruction(prompt="a"), Instruction(prompt=HALF), Instruction(prompt="b", meta={"tags": ["x", HALF]})]
    stage = run.map(answer, given)
    assert [row.completion for row in stage] == ["a"]
    first, second = stage.rejects
    assert (first.reason, second.reason) == ("unreadable text", "unreadable text")
    assert "Instruction.prompt, character 2" in first.detail
    assert "Instruction.meta.tags[1], character 2" in second.detail
    assert "text.encode(" in first.detail
    assert first.body["prompt"] == "a\ufffd b"
    assert run.filter(lambda records: (None for _ in records), given).ledger.rejected == {"unreadable text": 2}


def test_half_a_character_in_what_a_strategy_makes_or_says_or_asks_rejects_its_record(open_run: Open) -> None:
    async def careless(record: Instruction, ask: Ask) -> list[Demonstration]:
        if record.prompt == "asks":
            await ask(Request((Message("user", HALF),), str))
        if record.prompt == "says":
            raise RecordError(f"no {HALF}", reason=HALF)
        return [Demonstration(prompt="x", completion="fine"), Demonstration(prompt="y", completion=HALF)]

    stage = open_run(FunctionTeacher(asked)).map(careless, seeds(["makes", "says", "asks"]))
    found = {reject.body["prompt"]: (reject.reason, reject.detail) for reject in stage.rejects}
    assert len(stage) == 0
    assert found["says"] == ("a\ufffd b", "no a\ufffd b")
    assert "Demonstration.completion, character 2" in found["makes"][1]
    assert "message[0], character 2" in found["asks"][1]


def test_half_a_character_in_a_reply_becomes_a_mark_and_a_replay_finds_the_same(open_run: Open) -> None:
    said = Completion(HALF, HALF, "stop", tool_calls=({"name": HALF},), logprobs=({"token": HALF, "logprob": -1.0},))
    seen: list[Completion] = []

    async def looking(record: Instruction, ask: Ask) -> list[Record]:
        reply = await ask.reply(ANSWER.fill(record))
        seen.append(reply.completion)
        return [Demonstration(prompt="x", completion=reply.value, reasoning=reply.reasoning)]

    teacher = FunctionTeacher(lambda _: said)
    for _ in range(2):
        run = open_run(teacher)
        [row] = run.map(looking, seeds(["q"]))
        assert row.completion == row.reasoning == "a\ufffd b"
        run.close()
    assert len(teacher.calls) == 1
    assert seen[0] == seen[1]
    assert seen[0].tool_calls == ({"name": "a\ufffd b"},)


def test_two_halves_that_belong_together_become_the_character(open_run: Open) -> None:
    [row] = open_run(FunctionTeacher(lambda _: "so \ud83d\ude00")).map(answer, seeds(["q"]))
    assert row.completion == "so \U0001f600"


def test_records_of_another_run_keep_their_own_provenance(open_run: Open, tmp_path: Path) -> None:
    first = open_run(FunctionTeacher(asked, identity="first"), "first")
    first.map(answer, seeds(["x"]))  # so that numbers differ between the two
    drafts = first.map(Sample(1, sampling=Sampling(temperature=0.5)), seeds(["a", "b"]))
    second = open_run(FunctionTeacher(asked, identity="second"), "second")
    second.map(answer, seeds(["other"]))
    kept = second.filter(lambda records: (None for _ in records), drafts)
    voted = second.map(SelfConsistency(str), kept)
    passed = second.map(passing, drafts)
    again = second.map(judged, drafts)
    for stage, teachers in ((kept, {"first"}), (voted, {"first"}), (passed, {"first"}), (again, {"first; second"})):
        [file] = second.save(stage, tmp_path / stage.name).rglob("*.parquet")
        rows = read_table(file).to_pylist()
        assert {row["teacher"] for row in rows} == teachers, stage.name
        assert all("labeling/answer" in row["prompt_template"] and "0.5" in row["sampling"] for row in rows)
    assert {call.teacher for call in read_report(second.folder).calls} == {"second"}


def test_a_stage_is_saved_by_the_run_that_made_it(open_run: Open) -> None:
    stage = open_run(FunctionTeacher(asked), "first").map(answer, seeds(["a"]))
    with pytest.raises(ConfigError, match=r"'answer' belongs to the run in .*first.*map or filter it here"):
        open_run(FunctionTeacher(asked), "second").save(stage)


def test_a_second_stage_does_not_replace_the_first_one_s_dataset(tmp_path: Path) -> None:
    with Run(tmp_path, teacher=FunctionTeacher(lambda request: "x"), quiet=True) as run:
        first, second = (run.map(Answer(), [Instruction(prompt=text)]) for text in "ab")
        path = run.save(first)
        with pytest.raises(ConfigError, match="already holds the stage 'answer' that this run has saved"):
            run.save(second)
        assert run.save(first, reasoning="inline") == path
        assert run.save(second, tmp_path / "second") in run.saved
