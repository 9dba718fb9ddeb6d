"""One role on several endpoints: calls go where there is room, and a dead endpoint costs no record."""

from __future__ import annotations

import asyncio
import logging
import queue
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from loopback import Call, Loopback, Served

from synthkd.errors import ConfigError, TeacherError, TeacherUnavailable, Transient
from synthkd.message import Message
from synthkd.prices import Price
from synthkd.record import Instruction
from synthkd.request import Completion, Limits, Request, Sampling
from synthkd.run import Run
from synthkd.strategies import Answer
from synthkd.teachers import OpenAITeacher, TeacherPool
from synthkd.testing import FunctionTeacher

Serve = Callable[..., Loopback]
REQUEST = Request((Message("user", "hi"),), str)


def seeds(n: int) -> list[Instruction]:
    return [Instruction(prompt=f"question {i}") for i in range(n)]


def of(servers: Sequence[Loopback], max_in_flight: int = 8, **options: Any) -> TeacherPool:
    """A pool of these servers, with short pauses."""
    members = [OpenAITeacher("m", base_url=server.url, max_in_flight=max_in_flight, tries=4) for server in servers]
    return TeacherPool(members, pause=0.05, longest_pause=0.2, **options)


def fake(
    name: str, answer: Callable[[Request[Any]], Any], most: int = 4, tries: int = 3, **more: Any
) -> FunctionTeacher:
    limits = Limits(f"http://{name}", most, tries, longest_wait=0.02)
    return FunctionTeacher(answer, f"http://{name}#m", limits=limits, **more)


def failing(error: Callable[[], Exception]) -> Callable[[Request[Any]], str]:
    def answer(request: Request[Any]) -> str:
        raise error()

    return answer


async def asked(pool: TeacherPool, times: int) -> list[Completion]:
    found = await asyncio.gather(*(pool.generate(REQUEST) for _ in range(times)))
    return [completion for [completion] in found]


def test_calls_are_spread_by_load_so_that_a_faster_server_gets_more_of_them(serve: Serve, tmp_path: Path) -> None:
    fast, slow = (serve(lambda call, delay=delay: Served("x", delay=delay)) for delay in (0.005, 0.2))
    with Run(tmp_path / "run", teacher=of([slow, fast]), quiet=True) as run:
        assert len(run.map(Answer(), seeds(200))) == 200
    assert len(fast.calls) + len(slow.calls) == 200
    assert len(fast.calls) > len(slow.calls) > 0


def test_each_member_has_its_own_limit_and_all_of_them_are_used() -> None:
    most: dict[str, int] = {"a": 0, "b": 0}
    now = dict(most)

    def counted(name: str) -> Callable[[Request[Any]], Any]:
        async def answer(request: Request[Any]) -> str:
            now[name] += 1
            most[name] = max(most[name], now[name])
            await asyncio.sleep(0.001)
            now[name] -= 1
            return name

        return answer

    pool = TeacherPool([fake("a", counted("a"), most=3), fake("b", counted("b"), most=5)])
    assert pool.limits.max_in_flight == 8
    asyncio.run(asked(pool, 100))
    assert most == {"a": 3, "b": 5}


def test_a_server_that_is_killed_and_comes_back_costs_no_record_and_is_used_again(
    serve: Serve, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def reply(call: Call) -> Served:
        return Served(call.echo, delay=0.01)

    lives: queue.Queue[Loopback] = queue.Queue()
    return_now, over = threading.Event(), threading.Event()

    def live_die_and_return() -> None:
        with Loopback(reply) as first:
            lives.put(first)
            first.wait_for(40)
        assert return_now.wait(20)
        with Loopback(reply, port=first.port) as second:
            lives.put(second)
            over.wait(20)

    mortal = threading.Thread(target=live_die_and_return)
    mortal.start()
    first = lives.get(timeout=10)

    def seeds_that_call_it_back() -> Iterator[Instruction]:
        for number, seed in enumerate(seeds(600)):
            if number == 250:
                return_now.set()
            yield seed

    pool = of([serve(reply), first], max_in_flight=4)
    try:
        with Run(tmp_path / "run", teacher=pool, records_in_flight=16) as run:
            stage = run.map(Answer(), seeds_that_call_it_back())
            assert [row.completion for row in stage] == [f"answer 0 to: question {i}" for i in range(600)]
    finally:
        return_now.set()
        over.set()
        mortal.join()
    assert len(lives.get(timeout=10).calls) > 50
    said = capsys.readouterr().err
    assert "taken out of the pool" in said
    assert f"run | {first.url} is back" in said


def test_a_member_that_asks_for_silence_gets_it_while_the_others_work(serve: Serve, tmp_path: Path) -> None:
    def busy(call: Call) -> Served | list[str]:
        return Served(status=429, headers={"retry-after-ms": "300"}) if len(polite.calls) == 1 else call.echo

    polite = serve(busy)
    other = serve(lambda call: Served(call.echo, delay=0.01))
    with Run(tmp_path / "run", teacher=of([polite, other], max_in_flight=1), quiet=True) as run:
        assert len(run.map(Answer(), seeds(120))) == 120
    first, second = polite.calls[:2]
    assert second.at - (first.done or 0) >= 0.299
    assert sum(call.at < second.at for call in other.calls) > 3


def test_where_all_members_ask_for_silence_the_shortest_is_kept(serve: Serve, tmp_path: Path) -> None:
    def busy(milliseconds: int) -> Callable[[Call], Served | list[str]]:
        def answer(call: Call) -> Served | list[str]:
            once = {"retry-after-ms": str(milliseconds)}
            return Served(status=429, headers=once) if call.attempt == 1 else call.echo

        return answer

    soon, late = serve(busy(150)), serve(busy(5000))
    began = time.monotonic()
    with Run(tmp_path / "run", teacher=of([late, soon]), quiet=True) as run:
        assert len(run.map(Answer(), seeds(1))) == 1
    assert [len(late.calls), len(soon.calls)] == [1, 2]
    assert soon.calls[1].at - soon.calls[0].at >= 0.15
    assert time.monotonic() - began < 4


def test_the_death_of_all_stops_the_run_names_each_and_rejects_no_record(tmp_path: Path) -> None:
    urls = ["http://127.0.0.1:9/v1", "http://127.0.0.1:10/v1"]
    members = [OpenAITeacher("m", base_url=url, tries=3) for url in urls]
    with Run(tmp_path / "run", teacher=TeacherPool(members, pause=0.01), quiet=True) as run:
        with pytest.raises(TeacherUnavailable, match=r"no member .*127\.0\.0\.1:9/.*; .*127\.0\.0\.1:10/"):
            run.map(Answer(), seeds(50))
        assert not run.counters.rejected


def test_members_that_refuse_everyone_stop_the_run_at_once(serve: Serve, tmp_path: Path) -> None:
    servers = [serve(lambda call: Served(status=401, error="bad key")) for _ in range(2)]
    began = time.monotonic()
    with (
        Run(tmp_path / "run", teacher=of(servers, max_in_flight=1), quiet=True) as run,
        pytest.raises(TeacherUnavailable, match=r"bad key.*; .*bad key"),
    ):
        run.map(Answer(), seeds(20))
    assert sum(len(server.calls) for server in servers) <= 4
    assert time.monotonic() - began < 3


def test_a_member_that_refuses_everyone_is_left_out_and_said_to_be(caplog: pytest.LogCaptureFixture) -> None:
    wrong = fake("wrong", failing(lambda: TeacherUnavailable("http://wrong answered 401")))
    pool = TeacherPool([wrong, fake("right", lambda request: "x")], pause=10)
    assert [c.text for c in asyncio.run(asked(pool, 20))] == ["x"] * 20
    assert len(wrong.calls) <= 4  # those that were on their way together
    assert [record.message for record in caplog.records] == [
        "http://wrong answered 401 (taken out of the pool for 10 s)"
    ]


def test_a_member_that_fails_again_and_again_is_taken_out_for_ever_longer(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        said: list[str] = []
        bad = fake("bad", failing(lambda: Transient("bad answered 502", status=502)))
        pool = TeacherPool([bad, fake("good", lambda request: "x")], pause=0.01, longest_pause=0.04)
        pool.watch(said.append)
        for _ in range(60):
            await pool.generate(REQUEST)
            await asyncio.sleep(0.004)
        assert [text.rpartition("for ")[2] for text in said[:4]] == ["0.01 s)", "0.02 s)", "0.04 s)", "0.04 s)"]
        assert len(bad.calls) < 20

    asyncio.run(main())
    assert not caplog.records


def test_a_busy_member_is_not_a_dead_one() -> None:
    async def main() -> None:
        busy = fake("busy", failing(lambda: Transient("busy answered 429", status=429)))
        pool = TeacherPool([busy, fake("good", lambda request: "x")])
        said: list[str] = []
        pool.watch(said.append)
        for _ in range(20):
            [completion] = await pool.generate(REQUEST)
            assert completion.text == "x"
        assert said == []
        assert busy.calls

    asyncio.run(main())


def test_a_call_that_every_member_fails_goes_back_to_whoever_made_it() -> None:
    members = [fake(name, failing(lambda: Transient("502", status=502))) for name in "ab"]
    with pytest.raises(Transient, match="502"):
        asyncio.run(TeacherPool(members).generate(REQUEST))
    assert [len(member.calls) for member in members] == [1, 1]


def test_a_refusal_of_one_request_is_an_answer_and_no_other_member_is_asked() -> None:
    members = [fake(name, failing(lambda: TeacherError("400"))) for name in "ab"]
    with pytest.raises(TeacherError, match="400"):
        asyncio.run(TeacherPool(members).generate(REQUEST))
    assert sorted(len(member.calls) for member in members) == [0, 1]


def test_who_is_cancelled_while_trying_a_member_leaves_that_to_the_next() -> None:
    async def main() -> None:
        broken = asyncio.Event()

        async def answer(request: Request[Any]) -> str:
            if not broken.is_set():
                broken.set()
                raise Transient("down", unreachable=True)
            await asyncio.sleep(0.02)
            return "x"

        pool = TeacherPool([fake("only", answer)], pause=0.01)
        first, second, third = (asyncio.create_task(pool.generate(REQUEST)) for _ in range(3))
        await asyncio.sleep(0.025)  # one of them tries now
        first.cancel()
        assert [c.text for [c] in await asyncio.gather(second, third)] == ["x", "x"]

    asyncio.run(asyncio.wait_for(main(), 5))


@pytest.mark.parametrize("seed", range(20))
def test_whatever_fails_whenever_every_call_ends_and_no_place_is_lost(seed: int) -> None:
    rng = random.Random(seed)
    members, share = rng.randint(1, 3), rng.uniform(0, 0.6)

    async def answer(request: Request[Any]) -> str:
        await asyncio.sleep(rng.random() / 1000)
        if rng.random() < share:
            failures = (
                Transient("gone", unreachable=True),
                Transient("busy", retry_after=rng.random() / 100, status=429),
                Transient("502", status=502),
                TeacherUnavailable("401"),
                TeacherError("400"),
            )
            raise rng.choice(failures)
        return "x"

    async def main() -> None:
        pool = TeacherPool(
            [fake(name, answer, tries=1000) for name in "abc"[:members]], pause=0.001, longest_pause=0.01
        )
        pool.watch(lambda text: None)
        calls = [asyncio.create_task(pool.generate(REQUEST)) for _ in range(60)]
        for call in rng.sample(calls, 10):
            await asyncio.sleep(rng.random() / 1000)
            call.cancel()
        async with asyncio.timeout(20):
            ended = await asyncio.gather(*calls, return_exceptions=True)
            for _ in range(1000):  # whoever is left out comes back
                await asyncio.sleep(0.001)
                with suppress(Transient, TeacherError, TeacherUnavailable):
                    await pool.generate(REQUEST)
                    break
            else:
                pytest.fail("nobody came back")
        assert {type(one) for one in ended} <= {
            list,
            asyncio.CancelledError,
            Transient,
            TeacherError,
            TeacherUnavailable,
        }
        [crew] = pool._crews.values()
        assert all((member.load, member.line.in_flight) == (0, 0) for member in crew.members)
        assert not crew._waiting

    asyncio.run(main())


def test_one_pool_serves_several_runs_one_after_the_other(serve: Serve, tmp_path: Path) -> None:
    pool = of([serve(), serve()])
    for number in range(2):
        with Run(tmp_path / str(number), teacher=pool, quiet=True) as run:
            assert len(run.map(Answer(), seeds(5))) == 5


def test_servers_may_come_and_go_without_a_call_being_paid_for_again(serve: Serve, tmp_path: Path) -> None:
    servers = [serve() for _ in range(3)]
    for pool in (of(servers[:2]), of(servers[1:]), of(servers[2:] * 2)):
        if pool.identity != "pool#m":
            assert pool.identity == f"{servers[2].url}#m"  # one teacher twice is that teacher
            continue
        with Run(tmp_path / "run", teacher=pool, quiet=True) as run:
            assert len(run.map(Answer(), seeds(10))) == 10
    assert sum(len(server.calls) for server in servers) == 10


def test_members_must_be_one_model_unless_the_caller_says_so() -> None:
    members = [OpenAITeacher(name, base_url=f"http://{name}.test/v1") for name in ("qwen", "qwen-awq")]
    with pytest.raises(ConfigError, match=r"different models: .*qwen.test.*identity="):
        TeacherPool(members)
    assert TeacherPool(members, identity="pool#qwen").identity == "pool#qwen"


def test_what_members_are_asked_must_be_the_same() -> None:
    warm = fake("warm", lambda request: "x", sampling=Sampling(temperature=1.0))
    with pytest.raises(ConfigError, match="sampling"):
        TeacherPool([warm, fake("cold", lambda request: "x")])
    with pytest.raises(ConfigError, match="at least one"):
        TeacherPool([])
    with pytest.raises(ConfigError, match="batch"):
        TeacherPool([OpenAITeacher("m", base_url="http://localhost/v1", batch=True)])
    plain = fake("plain", lambda request: "x", native_schema=False)
    assert not TeacherPool([plain, fake("cold", lambda request: "x")]).native_schema


def test_the_pool_s_price_is_the_dearest_member_s_and_unknown_where_one_is() -> None:
    def priced(name: str, price: Price | None) -> FunctionTeacher:
        return fake(name, lambda request: "x", price=price)

    pool = TeacherPool([priced("a", Price(1.0, 9.0)), priced("b", Price(2.0, 3.0, 0.5))])
    assert pool.price == Price(2.0, 9.0, 1.0)
    assert TeacherPool([priced("a", Price(1.0, 9.0)), priced("b", None)]).price is None
    pool.price = Price(0.0, 0.0)
    assert pool.price == Price(0.0, 0.0)


def test_what_is_said_goes_to_the_log_as_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    dead = fake("dead", failing(lambda: Transient("gone", unreachable=True)))
    asyncio.run(TeacherPool([dead, fake("good", lambda request: "x")]).generate(REQUEST))
    assert caplog.record_tuples == [("synthkd.pool", logging.WARNING, "gone (taken out of the pool for 0.5 s)")]
