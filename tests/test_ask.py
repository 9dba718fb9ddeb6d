"""Asking: a call is made once, shared while it flies, replayed afterwards, and what fails fails by its name."""

import asyncio
import gc
import json
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, Field

from synthkd.ask import Ask
from synthkd.database import Database
from synthkd.errors import (
    ConfigError,
    EmptyReply,
    ParseError,
    RecordError,
    Refused,
    TeacherError,
    TeacherUnavailable,
    Transient,
    Truncated,
    UnknownTeacher,
)
from synthkd.journal import Journal
from synthkd.message import Message
from synthkd.progress import Counters
from synthkd.request import Completion, Limits, Policy, Request, Sampling
from synthkd.switchboard import Switchboard
from synthkd.testing import FunctionTeacher


class Verdict(BaseModel):
    reason: str
    score: int = Field(ge=1, le=5)


GOOD = '{"reason": "fine", "score": 3}'


def question(text: str = "What is 2 + 2?", reply: type[Any] = str, **more: Any) -> Request[Any]:
    return Request((Message("user", text),), reply, **more)


class Desk:
    """Asks on one journal file; each `asking` is what another process would do."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.counters = Counters()

    def asking(self, work: Callable[[Ask], Awaitable[Any]], teacher: Any = None, **roles: Any) -> Any:
        async def main() -> Any:
            with closing(Database(self.path)) as database:
                self.counters = Counters()
                board = Switchboard(Journal(database), self.counters)
                players = {"teacher": teacher, **roles} if teacher else roles
                async with asyncio.timeout(20):
                    return await work(Ask(board, players, "seed:record"))

        return asyncio.run(main())

    def once(self, request: Request[Any], teacher: Any) -> Any:
        return self.asking(lambda ask: ask(request), teacher)

    def rows(self) -> list[tuple[int, str]]:
        with closing(Database(self.path)) as database:
            return database.read("SELECT sample, text FROM calls ORDER BY id")  # type: ignore[return-value]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path / "run.db")


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


def counting(texts: Callable[[int], str | Completion] = str) -> FunctionTeacher:
    """Answers `1`, `2`, ... in the order of its draws."""
    numbers = iter(range(1, 1000))
    return FunctionTeacher(lambda _: texts(next(numbers)))


def slowly(answer: Callable[[Request[Any]], Any], seconds: float = 0.02) -> Callable[[Request[Any]], Awaitable[Any]]:
    async def answering(request: Request[Any]) -> Any:
        await asyncio.sleep(seconds)
        return answer(request)

    return answering


def failing(error: Exception) -> Callable[[Request[Any]], str]:
    def answer(_: Request[Any]) -> str:
        raise error

    return answer


# Every call is made once.


def test_an_answer_is_asked_for_once_and_replayed_by_the_next_process(desk: Desk) -> None:
    teacher = counting()
    assert [desk.once(question(), teacher) for _ in range(3)] == ["1", "1", "1"]
    assert len(teacher.calls) == 1
    assert (desk.counters.calls, desk.counters.replayed) == (0, 1)


def test_equal_requests_in_flight_share_one_call(desk: Desk) -> None:
    teacher = FunctionTeacher(slowly(lambda _: "four"))

    async def work(ask: Ask) -> list[str]:
        return await asyncio.gather(*(ask(question()) for _ in range(50)))

    assert desk.asking(work, teacher) == ["four"] * 50
    assert len(teacher.calls) == 1
    assert desk.rows() == [(0, "four")]


def test_requests_that_differ_only_in_policy_or_provenance_share_one_call(desk: Desk) -> None:
    teacher = FunctionTeacher(slowly(lambda _: "four"))

    async def work(ask: Ask) -> list[str]:
        changed = (question(), question(policy=Policy(repairs=7)), question(prompt="other@1"))
        return await asyncio.gather(*map(ask, changed))

    assert desk.asking(work, teacher) == ["four"] * 3
    assert len(teacher.calls) == 1


def test_a_failing_shared_call_fails_all_who_share_it_and_is_owed_again(desk: Desk) -> None:
    teacher = FunctionTeacher(slowly(failing(TeacherError("400: no"))))

    async def work(ask: Ask) -> list[Any]:
        return await asyncio.gather(*(ask(question()) for _ in range(20)), return_exceptions=True)

    outcomes = desk.asking(work, teacher)
    assert [type(outcome) for outcome in outcomes] == [TeacherError] * 20
    assert len(teacher.calls) == 1
    assert desk.once(question(), FunctionTeacher(lambda _: "four")) == "four"


def test_a_failing_call_that_nobody_shares_leaves_no_unheard_future(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(TeacherError):
        desk.once(question(), FunctionTeacher(failing(TeacherError("400"))))
    gc.collect()
    assert caplog.messages == []


def test_who_shares_a_call_that_its_owner_gave_up_makes_it_instead(desk: Desk) -> None:
    async def answer(_: Request[Any]) -> str:
        await asyncio.sleep(3600 if len(teacher.calls) == 1 else 0.01)
        return "four"

    async def work(ask: Ask) -> tuple[asyncio.Task[str], list[str]]:
        owner = asyncio.create_task(ask(question()))
        await asyncio.sleep(0.01)
        sharers = [asyncio.create_task(ask(question())) for _ in range(5)]
        await asyncio.sleep(0.01)
        owner.cancel()
        return owner, await asyncio.gather(*sharers)

    teacher = FunctionTeacher(answer)
    owner, answers = desk.asking(work, teacher)
    assert owner.cancelled()
    assert answers == ["four"] * 5
    assert len(teacher.calls) == 2  # the one that was given up, and one for all five


def test_who_gives_up_sharing_a_call_disturbs_neither_its_owner_nor_the_others(desk: Desk) -> None:
    given_up = asyncio.Event()

    async def answer(_: Request[Any]) -> str:
        await given_up.wait()
        return "four"

    teacher = FunctionTeacher(answer)

    async def work(ask: Ask) -> list[Any]:
        tasks = [asyncio.create_task(ask(question())) for _ in range(4)]
        await asyncio.sleep(0.01)
        tasks[2].cancel()
        given_up.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    answers = desk.asking(work, teacher)
    assert [answers[0], answers[1], answers[3]] == ["four"] * 3
    assert isinstance(answers[2], asyncio.CancelledError)
    assert len(teacher.calls) == 1


def test_who_is_cancelled_together_with_the_owner_asks_nobody_again(desk: Desk) -> None:
    teacher = FunctionTeacher(slowly(lambda _: "four", 5.0))

    async def work(ask: Ask) -> list[Any]:
        tasks = [asyncio.create_task(ask(question())) for _ in range(4)]
        await asyncio.sleep(0.02)
        for task in tasks:
            task.cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    assert [type(outcome) for outcome in desk.asking(work, teacher)] == [asyncio.CancelledError] * 4
    assert len(teacher.calls) == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda: (question("What is 2 + 3?"), "function"),
        lambda: (question(sampling=Sampling(temperature=1.0)), "function"),
        lambda: (question(), "another model"),
    ],
    ids=["text", "sampling", "teacher"],
)
def test_what_the_teacher_would_see_differently_is_asked_again(
    desk: Desk, change: Callable[[], tuple[Request[Any], str]]
) -> None:
    desk.once(question(), FunctionTeacher(lambda _: "old"))
    request, identity = change()
    assert desk.once(request, FunctionTeacher(lambda _: "new", identity)) == "new"


def test_a_teacher_s_own_defaults_count_towards_what_it_was_asked(desk: Desk) -> None:
    mild, wild = (FunctionTeacher(lambda _: "x", sampling=Sampling(temperature=t)) for t in (0.1, 0.9))
    for teacher in (mild, wild, mild):
        desk.once(question(), teacher)
    assert [teacher.calls[0].sampling.temperature for teacher in (mild, wild)] == [0.1, 0.9]
    assert (len(mild.calls), len(wild.calls)) == (1, 1)
    desk.once(question(sampling=Sampling(temperature=0.9)), mild)  # said by the request: the same draw as wild's
    assert len(mild.calls) == 1


# Several draws of one request.


@pytest.mark.parametrize(("most", "calls"), [(None, 1), (1, 4), (3, 2)])
def test_several_draws_are_as_many_rows_however_few_choices_a_server_gives(
    desk: Desk, most: int | None, calls: int
) -> None:
    teacher = counting()
    teacher.most = most

    async def work(ask: Ask) -> list[str]:
        return [reply.value for reply in await ask.many(question(), 4)]

    assert desk.asking(work, teacher) == ["1", "2", "3", "4"]
    assert len(teacher.calls) == calls
    assert desk.rows() == [(0, "1"), (1, "2"), (2, "3"), (3, "4")]
    assert desk.asking(work, teacher) == ["1", "2", "3", "4"]
    assert len(teacher.calls) == calls


def test_a_server_that_gives_more_choices_than_asked_for_is_not_believed(desk: Desk) -> None:
    class Generous(FunctionTeacher):
        async def generate(self, request: Request[Any], n: int = 1) -> list[Completion]:
            return await super().generate(request, n + 2)

    async def work(ask: Ask) -> list[str]:
        return [reply.value for reply in await ask.many(question(), 2)]

    assert desk.asking(work, Generous(lambda _: "x")) == ["x", "x"]
    assert len(desk.rows()) == 2


def test_a_server_that_gives_no_choice_at_all_is_a_teacher_error_and_no_endless_loop(desk: Desk) -> None:
    class Silent(FunctionTeacher):
        async def generate(self, request: Request[Any], n: int = 1) -> list[Completion]:
            return []

    with pytest.raises(TeacherError, match="without any choice"):
        desk.once(question(), Silent(lambda _: "x"))


def test_more_draws_of_the_same_request_keep_those_that_are_there(desk: Desk) -> None:
    teacher = counting()
    for n in (2, 4, 3):
        assert [reply.value for reply in desk.asking(lambda ask, n=n: ask.many(question(), n), teacher)] == [
            str(number) for number in range(1, n + 1)
        ]
    assert len(teacher.calls) == 2


def test_overlapping_draws_in_flight_are_each_made_once(desk: Desk) -> None:
    numbers = iter(range(100))
    teacher = FunctionTeacher(slowly(lambda _: str(next(numbers)), 0.005))

    async def work(ask: Ask) -> list[list[str]]:
        found = await asyncio.gather(*(ask.many(question(), n) for n in (2, 4, 3, 1)))
        return [[reply.value for reply in replies] for replies in found]

    found = desk.asking(work, teacher)
    assert [len(replies) for replies in found] == [2, 4, 3, 1]
    assert all(replies == found[1][: len(replies)] for replies in found)
    assert len(desk.rows()) == 4


def test_unusable_draws_are_dropped_and_counted_as_long_as_one_is_left(desk: Desk) -> None:
    said = [GOOD, "", Completion(GOOD, finish_reason="length"), Completion("", refusal="no")]
    teacher = counting(lambda number: said[number - 1])

    async def work(ask: Ask) -> tuple[int, dict[str, int]]:
        replies = await ask.many(question(reply=Verdict), 4)
        return len(replies), dict(ask.dropped)

    assert desk.asking(work, teacher) == (1, {"empty reply": 1, "truncated": 1, "refused": 1})


def test_when_no_draw_is_usable_the_first_one_says_why(desk: Desk) -> None:
    said = [Completion("", refusal="no"), ""]
    with pytest.raises(Refused):
        desk.asking(lambda ask: ask.many(question(), 2), counting(lambda number: said[number - 1]))


def test_less_than_one_draw_is_an_error_of_the_caller(desk: Desk) -> None:
    with pytest.raises(ConfigError, match="n=0"):
        desk.asking(lambda ask: ask.many(question(), 0), counting())


# Replies that are not what was hoped for.


def test_an_invalid_reply_is_sent_back_with_the_error_and_the_repair_is_replayed(desk: Desk) -> None:
    teacher = FunctionTeacher(lambda request: GOOD if len(request.messages) > 1 else '{"reason": "fine", "score": 9}')
    assert desk.once(question(reply=Verdict), teacher).score == 3
    first, second = teacher.calls
    assert second.messages[0] == first.messages[0]
    assert second.messages[1] == Message("assistant", '{"reason": "fine", "score": 9}')
    assert "score: Input should be less than or equal to 5 (got '9')" in second.messages[2].content
    assert desk.counters.repairs == 1
    assert desk.once(question(reply=Verdict), teacher).score == 3
    assert len(teacher.calls) == 2
    assert desk.counters.calls == 0


@pytest.mark.parametrize("repairs", [0, 1, 3])
def test_repair_turns_are_bounded_by_the_policy(desk: Desk, repairs: int) -> None:
    teacher = counting(lambda number: f"I say no, {number}")
    with pytest.raises(ParseError, match="no JSON object"):
        desk.once(question(reply=Verdict, policy=Policy(repairs=repairs)), teacher)
    assert len(teacher.calls) == 1 + repairs


def test_a_cut_reply_is_never_repaired(desk: Desk) -> None:
    teacher = counting(lambda _: GOOD[:-5])
    with pytest.raises(Truncated):
        desk.once(question(reply=Verdict, policy=Policy(repairs=3)), teacher)
    assert len(teacher.calls) == 1


def cut_below(limit: int) -> Callable[[Request[Any]], Completion]:
    def answer(request: Request[Any]) -> Completion:
        given = request.sampling.max_tokens or 0
        return Completion(f"up to {given}", finish_reason="length" if given < limit else "stop")

    return answer


def test_a_cut_reply_is_asked_for_once_more_with_twice_the_limit(desk: Desk) -> None:
    teacher = FunctionTeacher(cut_below(200))
    request = question(sampling=Sampling(max_tokens=100), policy=Policy(truncated="extend"))
    assert [desk.once(request, teacher) for _ in range(2)] == ["up to 200"] * 2
    assert len(teacher.calls) == 2


def test_a_reply_that_is_cut_twice_is_truncated(desk: Desk) -> None:
    teacher = FunctionTeacher(cut_below(1000))
    with pytest.raises(Truncated):
        desk.once(question(sampling=Sampling(max_tokens=100), policy=Policy(truncated="extend")), teacher)
    assert [call.sampling.max_tokens for call in teacher.calls] == [100, 200]


def test_without_a_limit_there_is_nothing_to_extend(desk: Desk) -> None:
    teacher = FunctionTeacher(lambda _: Completion("once", finish_reason="length"))
    with pytest.raises(Truncated):
        desk.once(question(policy=Policy(truncated="extend")), teacher)
    assert len(teacher.calls) == 1


def test_several_cut_draws_become_several_answers_and_not_one_answer_several_times(desk: Desk) -> None:
    numbers = iter(range(100))

    def answer(request: Request[Any]) -> Completion:
        cut = request.sampling.max_tokens == 8
        return Completion(str(next(numbers)), finish_reason="length" if cut else "stop")

    request = question(sampling=Sampling(max_tokens=8), policy=Policy(truncated="extend"))

    async def work(ask: Ask) -> list[str]:
        return [reply.value for reply in await ask.many(request, 4)]

    teacher = FunctionTeacher(answer)
    found = desk.asking(work, teacher)
    assert len(set(found)) == 4
    assert desk.asking(work, teacher) == found
    assert len(desk.rows()) == 8


def test_several_equally_invalid_draws_are_repaired_separately(desk: Desk) -> None:
    scores = iter(range(1, 6))

    def answer(request: Request[Any]) -> str:
        return json.dumps({"reason": "r", "score": next(scores)}) if len(request.messages) > 1 else "no"

    async def work(ask: Ask) -> set[int]:
        return {reply.value.score for reply in await ask.many(question(reply=Verdict), 4)}

    assert desk.asking(work, FunctionTeacher(answer)) == {1, 2, 3, 4}


@pytest.mark.parametrize(
    ("completion", "policy", "wanted"),
    [
        (Completion("once", finish_reason="length"), Policy(), Truncated),
        (Completion("once", finish_reason="length"), Policy(truncated="keep"), "once"),
        (Completion("", refusal="no"), Policy(), Refused),
        (Completion("", refusal="no"), Policy(refused="keep"), "no"),
        (Completion(""), Policy(), EmptyReply),
        (Completion(""), Policy(empty="keep"), ""),
    ],
)
def test_refusals_cuts_and_silence_are_journaled_and_a_new_policy_reads_them_without_a_call(
    desk: Desk, completion: Completion, policy: Policy, wanted: Any
) -> None:
    teacher = FunctionTeacher(lambda _: completion)
    for given in (Policy(), policy):
        try:
            outcome = desk.once(question(policy=given), teacher)
        except RecordError as error:
            outcome = type(error)
    assert outcome == wanted
    assert len(teacher.calls) == 1


def test_the_schema_is_written_into_the_prompt_only_for_a_teacher_that_does_not_enforce_it(desk: Desk) -> None:
    for native in (True, False):
        teacher = FunctionTeacher(lambda _: GOOD, f"native {native}", native_schema=native)
        desk.once(question(reply=Verdict), teacher)
        assert ('"required":["reason","score"]' in teacher.calls[0].messages[0].content) is not native


# Failures on the way.


def shaky(failures: int, error: Callable[[], Exception]) -> Callable[[Request[Any]], str]:
    left = [failures]

    def answer(_: Request[Any]) -> str:
        left[0] -= 1
        if left[0] >= 0:
            raise error()
        return "four"

    return answer


def test_a_transient_failure_is_tried_again_and_counted(desk: Desk) -> None:
    teacher = FunctionTeacher(shaky(3, lambda: Transient("500")))
    assert desk.once(question(), teacher) == "four"
    assert len(teacher.calls) == 4
    assert desk.counters.retries == 3
    assert desk.counters.in_flight == 0


def test_when_the_tries_are_used_up_only_this_request_is_lost_and_the_next_run_asks_again(desk: Desk) -> None:
    limits = Limits("here", tries=3, longest_wait=0.01)
    teacher = FunctionTeacher(failing(Transient("500: overloaded")), limits=limits)
    with pytest.raises(TeacherError, match=r"500: overloaded \(after 3 tries\)") as caught:
        desk.once(question(), teacher)
    assert not isinstance(caught.value, Transient)
    assert len(teacher.calls) == 3
    assert desk.once(question(), FunctionTeacher(lambda _: "four")) == "four"


def test_a_permanent_failure_is_tried_once(desk: Desk) -> None:
    teacher = FunctionTeacher(failing(TeacherError("400: too long")))
    with pytest.raises(TeacherError, match="400: too long"):
        desk.once(question(), teacher)
    assert len(teacher.calls) == 1


def test_an_endpoint_that_never_answered_and_cannot_be_reached_is_unavailable(desk: Desk) -> None:
    limits = Limits("http://127.0.0.1:9/v1", tries=2, longest_wait=0.01)
    teacher = FunctionTeacher(failing(Transient("refused", unreachable=True)), limits=limits)
    with pytest.raises(TeacherUnavailable, match=r"nothing answers at http://127\.0\.0\.1:9/v1: refused"):
        desk.once(question(), teacher)


def test_an_endpoint_that_has_answered_before_loses_only_the_request_when_it_cannot_be_reached(desk: Desk) -> None:
    def answer(request: Request[Any]) -> str:
        if request.messages[0].content == "gone":
            raise Transient("reset", unreachable=True)
        return "four"

    async def work(ask: Ask) -> None:
        await ask(question("here"))
        await ask(question("gone"))

    teacher = FunctionTeacher(answer, limits=Limits("here", tries=2, longest_wait=0.01))
    with pytest.raises(TeacherError, match="reset"):
        desk.asking(work, teacher)


def give_up_after(desk: Desk, good: set[int]) -> list[type[Any]]:
    """Outcomes of requests one after another, of which only the `good` ones are answered."""

    def answer(request: Request[Any]) -> str:
        if int(request.messages[0].content) not in good:
            raise Transient("500")
        return "four"

    async def work(ask: Ask) -> list[type[Any]]:
        outcomes = []
        for number in range(24):
            [outcome] = await asyncio.gather(ask(question(str(number))), return_exceptions=True)
            outcomes.append(type(outcome))
        return outcomes

    teacher = FunctionTeacher(answer, limits=Limits("here", tries=1))
    found: list[type[Any]] = desk.asking(work, teacher)
    return found


def test_an_endpoint_that_fails_many_calls_in_a_row_counts_as_dead(desk: Desk) -> None:
    assert give_up_after(desk, set()) == [TeacherError] * 15 + [TeacherUnavailable] * 9


def test_one_answer_in_between_shows_that_an_endpoint_lives(desk: Desk) -> None:
    assert TeacherUnavailable not in give_up_after(desk, {10})


def test_an_endpoint_that_asks_for_silence_gets_it_from_every_role_that_uses_it(desk: Desk) -> None:
    times: list[float] = []

    def answer(_: Request[Any]) -> str:
        times.append(asyncio.get_running_loop().time())
        if len(times) == 1:
            raise Transient("429", retry_after=0.1)
        return "four"

    limits = Limits("here", longest_wait=0.01)
    players = {role: FunctionTeacher(answer, role, limits=limits) for role in ("teacher", "judge")}

    async def work(ask: Ask) -> list[str]:
        first = asyncio.create_task(ask(question()))
        await asyncio.sleep(0.01)
        return await asyncio.gather(first, *(ask(question(str(i)), "judge") for i in range(5)))

    assert desk.asking(work, **players) == ["four"] * 6
    assert all(later - times[0] >= 0.095 for later in times[1:])


def test_a_call_that_waits_for_its_next_try_holds_no_place(desk: Desk) -> None:
    asked: list[str] = []

    def answer(request: Request[Any]) -> str:
        asked.append(request.messages[0].content)
        if asked == ["a"]:
            raise Transient("500")
        return "four"

    async def work(ask: Ask) -> None:
        await asyncio.gather(ask(question("a")), ask(question("b")), ask(question("c")))

    desk.asking(work, FunctionTeacher(answer, limits=Limits("here", max_in_flight=1, longest_wait=0.05)))
    assert asked == ["a", "b", "c", "a"]


def test_no_more_calls_fly_than_an_endpoint_allows_over_all_its_roles(desk: Desk) -> None:
    flying, most = 0, 0

    async def answer(_: Request[Any]) -> str:
        nonlocal flying, most
        flying += 1
        most = max(most, flying)
        await asyncio.sleep(0.002)
        flying -= 1
        return "x"

    players = {role: FunctionTeacher(answer, role, limits=Limits("here", max_in_flight=3)) for role in ("a", "b")}

    async def work(ask: Ask) -> None:
        await asyncio.gather(*(ask(question(str(i)), role) for i in range(15) for role in ("a", "b")))

    desk.asking(work, **players)
    assert most == 3


def test_a_bug_in_a_teacher_comes_out_as_it_is(desk: Desk) -> None:
    with pytest.raises(ZeroDivisionError):
        desk.once(question(), FunctionTeacher(lambda _: str(1 / 0)))


# Roles and chance.


def test_a_role_that_nobody_plays_names_those_that_are_played(desk: Desk) -> None:
    with pytest.raises(UnknownTeacher, match=r"'student'; roles given: judge, teacher\. Pass Run\(\.\.\., student="):
        desk.asking(lambda ask: ask(question(), "student"), counting(), judge=counting())


def test_each_role_is_asked_its_own_teacher(desk: Desk) -> None:
    async def work(ask: Ask) -> tuple[str, str]:
        return await ask(question()), await ask(question(), "judge")

    players = {role: FunctionTeacher(lambda _, role=role: role, role) for role in ("teacher", "judge")}
    assert desk.asking(work, **players) == ("teacher", "judge")


def test_chance_depends_on_the_seed_alone_and_is_one_stream_within_a_record(desk: Desk) -> None:
    async def work(ask: Ask) -> list[float]:
        return [ask.rng.random(), ask.rng.random()]

    first, again = desk.asking(work), desk.asking(work)
    assert first == again
    assert first[0] != first[1]
    other = Ask(None, {}, "another:record")  # type: ignore[arg-type]
    assert other.rng.random() != first[0]


# --- effects and scores -----------------------------------------------------------------------------------------------


def test_an_effect_is_had_once_and_a_replay_gives_what_it_gave(desk: Desk) -> None:
    had: list[int] = []

    async def twice(ask: Ask) -> list[Any]:
        async def act() -> int:
            had.append(len(had))
            return had[-1]

        return [await ask.effect("roll", {"sides": 6}, act) for _ in range(2)]

    assert desk.asking(twice, FunctionTeacher(lambda _: "x")) == [0, 1]
    assert desk.asking(twice, FunctionTeacher(lambda _: "x")) == [0, 1]
    assert had == [0, 1]


def test_an_effect_that_fails_is_had_again(desk: Desk) -> None:
    had: list[int] = []

    async def once(ask: Ask) -> Any:
        async def act() -> str:
            had.append(1)
            if len(had) == 1:
                raise OSError("no network")
            return "done"

        return await ask.effect("post", {}, act)

    with pytest.raises(OSError, match="no network"):
        desk.asking(once, FunctionTeacher(lambda _: "x"))
    assert desk.asking(once, FunctionTeacher(lambda _: "x")) == "done"


class Scoring(FunctionTeacher):
    """Gives every character of a completion the same log-probability, and counts."""

    scored = 0

    async def score(self, messages: Any, completion: str) -> list[float]:
        self.scored += 1
        return [-0.5] * len(completion)


def test_a_score_is_asked_for_once(desk: Desk) -> None:
    teacher = Scoring(lambda _: "x")

    async def score(ask: Ask) -> list[float]:
        return await ask.score((Message("user", "2 + 2?"),), "four", role="teacher")

    for _ in range(2):
        assert desk.asking(score, teacher) == [-0.5] * 4
    assert teacher.scored == 1


def test_a_teacher_that_cannot_score_says_who_can(desk: Desk) -> None:
    with pytest.raises(ConfigError, match="cannot score texts"):
        desk.asking(lambda ask: ask.score((), "x", role="teacher"), FunctionTeacher(lambda _: "x"))
