"""The live view: what a run is doing, on standard error, and nothing at all when it is quiet."""

import pytest

from synthkd.progress import Counters, LiveView, _duration, _Meter


def test_a_finished_stage_leaves_a_line_on_standard_error_and_none_on_standard_output(
    capsys: pytest.CaptureFixture[str],
) -> None:
    counters = Counters()
    view = LiveView(counters, "evol-math", quiet=False)
    view.begin("answer", 3)
    view.end("answer: 3 in, 3 out")
    assert capsys.readouterr() == ("", "evol-math | answer: 3 in, 3 out\n")
    assert counters.finished == ["answer: 3 in, 3 out"]


def test_a_quiet_view_says_nothing_and_still_counts(capsys: pytest.CaptureFixture[str]) -> None:
    counters = Counters()
    view = LiveView(counters, "evol-math", quiet=True)
    view.begin("answer", 3)
    view.end("answer: 3 in, 3 out")
    view.say("a word")
    view.stop()
    assert capsys.readouterr() == ("", "")
    assert counters.finished == ["answer: 3 in, 3 out"]


def test_a_new_stage_starts_its_own_counts_and_keeps_those_of_the_run() -> None:
    counters = Counters(done=7, rejected=2, calls=9, replayed=4)
    LiveView(counters, "x", quiet=True).begin("rank", None)
    assert (counters.stage, counters.total, counters.done, counters.rejected) == ("rank", None, 0, 0)
    assert (counters.calls, counters.replayed) == (9, 4)


def test_the_line_says_how_far_it_came_and_what_went_wrong() -> None:
    counters = Counters(stage="answer", total=5000, done=1204, rejected=37, in_flight=256, retries=3, repairs=2)
    counters.prompt_tokens, counters.completion_tokens = 1_000_000, 234_567
    line = _Meter(counters).line()
    for part in (
        "answer  1,204/5,000 rows",
        "37 rejected",
        "256 in flight",
        "3 retries",
        "2 repairs",
        "1,234,567 tokens",
    ):
        assert part in line
    assert line.endswith(" left")


def test_the_line_leaves_out_what_is_not_known_or_did_not_happen() -> None:
    line = _Meter(Counters(stage="answer", done=3)).line()
    assert line.startswith("answer  3 rows")
    for part in ("/", "rejected", "retries", "repairs", "left"):
        assert part not in line


def test_rates_are_those_of_the_last_seconds() -> None:
    counters = Counters(stage="answer")
    meter = _Meter(counters)
    meter.line()
    counters.done = counters.calls = 10**7
    assert "rows/s" in meter.line()
    assert "rows/min" in _twice(Counters(stage="answer"))


def _twice(counters: Counters) -> str:
    meter = _Meter(counters)
    meter.line()
    return meter.line()


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (59.4, "59s"), (60, "1m00s"), (3599, "59m59s"), (3600, "1h00m"), (90061, "25h01m")]
)
def test_a_duration_is_as_short_as_it_can_be(seconds: float, text: str) -> None:
    assert _duration(seconds) == text
