"""The floor: a plain aiohttp client that makes the same requests and does nothing else with the answers.

No prompt is rendered, nothing is stored, and a JSON reply is only loaded. What a framework costs is what it adds.
"""

from __future__ import annotations

import argparse
import asyncio
import random
from collections.abc import Iterator

import aiohttp
import orjson

from benchmarks.driver import MAX_TOKENS, Stopwatch, arguments, checked, parsed, prompt, result

_SHAPE = {"answer": {"type": "string"}, "text": {"type": "string"}}
_SCHEMA = {"type": "object", "properties": _SHAPE, "required": ["answer", "text"]}
_FORM = {"type": "json_schema", "json_schema": {"name": "out", "schema": _SCHEMA}}


async def ask(session: aiohttp.ClientSession, url: str, i: int, structured: bool) -> str:
    """One request, tried again until it succeeds."""
    body = {"model": "mock", "messages": [{"role": "user", "content": prompt(i, structured)}], "max_tokens": MAX_TOKENS}
    if structured:
        body["response_format"] = _FORM
    data = orjson.dumps(body)
    while True:
        async with session.post(url, data=data) as response:
            content = await response.read()
        if response.status == 200:
            text: str = orjson.loads(content)["choices"][0]["message"]["content"]
            try:
                if not structured or "text" in orjson.loads(text):
                    return text
            except orjson.JSONDecodeError:
                pass
        else:
            await asyncio.sleep(float(response.headers.get("retry-after", 0.5)) * random.uniform(1, 1.25))


async def all_of(given: argparse.Namespace) -> list[tuple[int, str | None]]:
    """The rows, with a fixed number of requests in flight."""
    rows: list[tuple[int, str | None]] = []
    url = f"{given.url}/chat/completions"
    headers = {"content-type": "application/json", "authorization": "Bearer x"}

    async def worker(numbers: Iterator[int]) -> None:
        for i in numbers:
            rows.append((i, await ask(session, url, i, given.structured)))

    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, headers=headers) as session:
        numbers = iter(range(given.n))
        await asyncio.gather(*(worker(numbers) for _ in range(min(given.concurrency, given.n))))
    return rows


def main() -> None:
    """Run and print the result."""
    given = parsed(arguments("Plain aiohttp, the floor of the benchmarks."))
    try:
        import uvloop
    except ImportError:  # not on Windows
        run = asyncio.run
    else:
        run = uvloop.run
    with Stopwatch() as watch:
        rows = run(all_of(given))
    result(given.n, watch, **checked(given.n, rows))


if __name__ == "__main__":
    main()
