"""The provider's files and batches endpoints: the only place that uses the openai SDK.

tenacity owns the retries, the SDK makes none. Invariants: a batch is created once per file, also when the answer to
its creation was lost; no redirect is followed, and no error shows a key.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from functools import partial
from typing import IO, TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qsl, urlsplit

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_after_attempt
from tenacity.wait import wait_random_exponential

from synthkd.errors import TeacherError, TeacherUnavailable, Transient
from synthkd.teachers.batch.lines import PATH, Refusal
from synthkd.teachers.batch.options import Batch
from synthkd.teachers.endpoint import Endpoint

if TYPE_CHECKING:
    from openai import APIError
    from openai.types import Batch as Job
    from openai.types import FileObject

T = TypeVar("T")

_FIRST_TRIES, _TRIES = 6, 24
"""Attempts per call before the endpoint has ever answered, and afterwards: a batch may outlast an outage."""
_KEPT = 31 * 24 * 3600
"""Seconds after which a provider has forgotten a batch's files."""
_PAGE = 100
_LOGS = ("httpx", "httpx2", "openai._base_client")


class Account:
    """What one key can see and do at one endpoint."""

    def __init__(self, endpoint: Endpoint, refusal: Refusal, options: Batch) -> None:
        import openai

        self._openai = openai
        self._refusal = refusal
        self._endpoint = endpoint
        self._first, longest = options.poll_seconds
        self._pause = wait_random_exponential(multiplier=min(0.5, self._first), max=longest)
        self._answered = False
        sent = {name.title(): value for name, value in endpoint.headers.items()}
        del sent["Content-Type"]  # the SDK knows better: an upload is no JSON
        self._client = openai.AsyncOpenAI(
            api_key="none",  # the SDK insists on one; what authorizes is among the headers below
            base_url=endpoint.name,
            default_query=dict(parse_qsl(urlsplit(endpoint.url).query)),
            max_retries=0,
            http_client=openai.DefaultAsyncHttpxClient(follow_redirects=False),
        )
        # What single calls send and no more: the SDK adds organization, project and headers from the environment.
        self._client.organization = self._client.project = None
        self._client._custom_headers = sent
        for name in _LOGS:  # they log URLs, and a query may hold a key
            logging.getLogger(name).addFilter(self._cleaned)

    async def upload(self, file: IO[bytes], name: str) -> str:
        """Send an input file; gives its id."""

        async def send() -> FileObject:
            file.seek(0)
            return await self._client.files.create(file=(name, file), purpose="batch")

        return (await self._call(send)).id

    async def create(self, file_id: str, metadata: Mapping[str, str]) -> Job:
        """Start a batch on an uploaded file."""
        attempts = 0

        async def start() -> Job:
            nonlocal attempts
            attempts += 1
            if attempts > 1:  # it may exist: the answer was lost, not necessarily the request
                await asyncio.sleep(self._first)
                async for job in self.jobs():
                    if job.input_file_id == file_id:
                        return job
            return await self._client.batches.create(
                completion_window="24h",
                endpoint=PATH,
                input_file_id=file_id,
                metadata=dict(metadata),
            )

        return await self._call(start)

    async def jobs(self) -> AsyncIterator[Job]:
        """Every batch whose files may still be there, newest first."""
        after: dict[str, Any] = {}
        while True:
            page = await self._call(partial(_page, self._client, after))
            for job in page.data or []:
                yield job
            if not (page.data and page.has_more) or page.data[-1].created_at < time.time() - _KEPT:
                return
            after = {"after": page.data[-1].id}

    async def look(self, job_id: str) -> Job:
        """How a batch stands."""
        return await self._call(lambda: self._client.batches.retrieve(job_id))

    async def cancel(self, job_id: str) -> None:
        """End a batch; what it has answered by then stays."""
        await self._call(lambda: self._client.batches.cancel(job_id))

    async def lines(self, file_id: str) -> AsyncIterator[bytes]:
        """The lines of a file as they come in; after a lost connection they come again from the first.

        Raises:
            TeacherError: the file is gone or may not be read.
        """
        for attempt in range(_TRIES):
            try:
                async for line in self._read(file_id):
                    yield line
                return
            except Transient as error:
                if attempt == _TRIES - 1:
                    raise TeacherUnavailable(str(error)) from error
                await asyncio.sleep(error.retry_after or min(self._first * 1.5**attempt, 60))

    async def aclose(self) -> None:
        """Close the connections."""
        for name in _LOGS:
            logging.getLogger(name).removeFilter(self._cleaned)
        await self._client.close()

    async def _read(self, file_id: str) -> AsyncIterator[bytes]:
        try:
            async with self._client.files.with_streaming_response.content(file_id) as response:
                chunks, rest = response.iter_bytes(), b""  # as they come: a size would make it wait
                while True:
                    try:
                        chunk = await anext(chunks)
                    except StopAsyncIteration:
                        break
                    except Exception as error:  # the transport's own, which the SDK hands through
                        raise Transient(f"{self._endpoint.name}: a file broke off: {self._clean(error)}") from None
                    # Not `iter_lines`, which also splits at U+2028 and its kin, inside of JSON strings.
                    *lines, rest = (rest + chunk).split(b"\n")
                    for line in lines:
                        if line.strip():
                            yield line
                    await asyncio.sleep(0)  # whoever was answered goes on, and the journal keeps pace
                if rest.strip():
                    yield rest
        except self._openai.APIError as error:
            failure = self._failure(error)
            if isinstance(error, self._openai.APIStatusError) and error.status_code in (400, 403, 404, 410):
                raise TeacherError(f"file {file_id} cannot be read: {failure}") from None
            raise failure from None

    async def _call(self, work: Callable[[], Awaitable[T]]) -> T:
        async def once() -> T:
            try:
                found = await work()
                if isinstance(found, str):
                    raise ValueError(found[:120])
            except self._openai.APIError as error:
                raise self._failure(error) from None
            except (ValueError, TypeError, AttributeError) as error:  # a proxy's page: the SDK takes it for an answer
                said = f"answered with something that does not belong to {_BATCHES}: {self._clean(error)}"
                raise Transient(f"{self._endpoint.name} {said}") from None
            self._answered = True
            return found

        tries = _TRIES if self._answered else _FIRST_TRIES
        retrying = AsyncRetrying(
            stop=stop_after_attempt(tries),
            wait=self._wait,
            retry=retry_if_exception_type(Transient),
            reraise=True,
        )
        try:
            return await retrying(once)
        except Transient as error:
            raise TeacherUnavailable(
                f"{error} (after {tries} tries). What was submitted goes on at the provider; run the same command "
                "again when it answers."
            ) from error

    def _wait(self, state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        asked = error.retry_after if isinstance(error, Transient) else None
        return asked if asked is not None else self._pause(state)

    def _failure(self, error: APIError) -> Exception:
        """What an error of the SDK means: worth another try, or the end of the run."""
        if not isinstance(error, self._openai.APIStatusError):
            return Transient(f"{self._endpoint.name}: {self._clean(error.__cause__ or error)}")
        response = error.response
        if response.status_code == 404:
            return TeacherUnavailable(
                f"{self._endpoint.name} answered 404 for its {_BATCHES}: it has no batch API, or the URL is wrong. "
                "Leave out batch=True for a server that only takes single calls."
            )
        found = self._refusal(response.status_code, dict(response.headers), _content(error))
        if isinstance(found, TeacherError) and not isinstance(found, Transient):
            return TeacherUnavailable(f"the {_BATCHES} endpoint refuses: {found}")
        return found

    def _cleaned(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = self._endpoint.clean(record.getMessage()), ()
        return True

    def _clean(self, error: BaseException) -> str:
        return self._endpoint.clean(str(error) or type(error).__name__)


_BATCHES = "files or batches"


async def _page(client: Any, after: dict[str, Any]) -> Any:
    return await client.batches.list(limit=_PAGE, **after)


def _content(error: Any) -> bytes:
    try:
        return bytes(error.response.content)
    except Exception:  # the body of a stream that nobody has read
        return str(error.message).encode()
