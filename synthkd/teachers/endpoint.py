"""An endpoint's address and credentials: the only place that holds a secret, and that takes it out of texts again.

Invariant: `name`, which identities, errors and files show, has neither user, password nor query; a key from the
environment goes to the provider it belongs to and to no other URL.
"""

from __future__ import annotations

import os
import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit, urlunsplit

from synthkd.errors import ConfigError

OPENAI_URL = "https://api.openai.com/v1"
_SHORTEST = 6
"""Characters from which on a header's or a query's value may be a secret; shorter ones would blot out plain words."""

_URL = re.compile(r"https?://.*?(?=,\s*(?:openai|openai-batch|local):|\Z)", re.DOTALL | re.IGNORECASE)
"""A URL in a specification: it goes on to the next member of a pool, for a password may hold anything else."""
_SECRET_NAME = re.compile(
    r"(?:[\w.-]*[-_.])?(?:(?:api|access)?key|token|secret|password|passwd|pw|credentials?)", re.IGNORECASE
)
"""What keys are called: `api_key`, `--token`; not `max_tokens`."""
_SECRET_VALUE = re.compile(
    r"\b(?:(?:sk|pk|rk|xai|glpat|xox[a-z])-|(?:hf|gsk|gh[pousr])_|AKIA|AIza|eyJ|(?:Bearer|Basic)\s+)[\w.+/=-]{12,}"
)
_KEYS = ("OPENAI_API_KEY", "SYNTHKD_API_KEY", "HF_TOKEN")
_GONE = "[secret]"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where calls go, with what credentials."""

    name: str
    """The base URL without credentials and query."""
    url: str = field(repr=False)
    """The URL of a chat completion, query included, credentials not."""
    headers: Mapping[str, str] = field(repr=False)
    """The headers of every request, `Authorization` included."""
    secrets: tuple[str, ...] = field(repr=False)
    """What must appear in no text, longest first."""

    def clean(self, text: str) -> str:
        """A text without the secrets. Clean before you cut: half a key is a secret too."""
        for secret in self.secrets:
            text = text.replace(secret, _GONE)
        return text


def endpoint(base_url: str | None, api_key: str | None, headers: Mapping[str, str]) -> Endpoint:
    """The endpoint that arguments and environment name.

    What authorizes is, in this order: `api_key`, an `Authorization` among the headers, user and password in the URL,
    the environment's key for this endpoint.

    Raises:
        ConfigError: no key for an endpoint that needs one, a URL that is none, or a line break in a header.
    """
    name, url, parts = _read(base_url or os.environ.get("OPENAI_BASE_URL") or OPENAI_URL)
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    basic = b64encode(f"{user}:{password}".encode()).decode() if user or password else ""
    key = (api_key or "").strip()
    own = {header.lower(): value for header, value in headers.items()}
    if not (key or "authorization" in own or basic):
        key = os.environ.get(_key_name(name, base_url is None), "").strip()
        if not key and name == OPENAI_URL:
            raise ConfigError(f"no key for {OPENAI_URL}: set OPENAI_API_KEY, or pass api_key=... to OpenAITeacher")
    if key:
        own["authorization"] = f"Bearer {key}"
    elif basic:
        own.setdefault("authorization", f"Basic {basic}")
    if broken := [header for header, value in own.items() if any(ord(char) < 32 or ord(char) == 127 for char in value)]:
        raise ConfigError(
            f"the header {broken[0]!r} (or the key in it) holds a line break or another control character"
        )
    long = [*headers.values(), *(word for value in headers.values() for word in value.split())]
    long += [value for _, value in parse_qsl(parts.query)] + parts.query.split("&")
    secrets = {key, basic, password, parts.password or "", *(value for value in long if len(value) >= _SHORTEST)} - {""}
    return Endpoint(
        name, url, {"content-type": "application/json", **own}, tuple(sorted(secrets, key=len, reverse=True))
    )


def key_name(name: str) -> str:
    """The environment variable that holds the key for an endpoint given as an argument."""
    return "OPENAI_API_KEY" if name == OPENAI_URL else "SYNTHKD_API_KEY"


def proxy_for(url: str) -> str | None:
    """The proxy that the environment names for this URL."""
    from urllib.request import getproxies, proxy_bypass

    parts = urlsplit(url)
    found = None if proxy_bypass(parts.netloc) else getproxies().get(parts.scheme)
    return f"http://{found}" if found and "://" not in found else found


def without_credentials(url: str) -> str:
    """A URL as a message may show it."""
    try:
        return _public(urlsplit(url))
    except ValueError:
        return "a URL that cannot be read"


def without_secrets(text: str) -> str:
    """A specification or another text of the command line as a message may show it.

    URLs lose their credentials, and what looks like a key, or stands in the environment as one, is blotted out.
    """
    text = _URL.sub(lambda url: without_credentials(url[0]), text)
    for key in filter(None, (os.environ.get(name, "").strip() for name in _KEYS)):
        text = text.replace(key, _GONE)
    return _SECRET_VALUE.sub(_GONE, text)


def public_value(name: str, value: str) -> str:
    """A parameter's value as a message or a file may show it: nothing of it, where the name is one that keys have."""
    return _GONE if _SECRET_NAME.fullmatch(name) else without_secrets(value)


def public_arguments(arguments: Sequence[str]) -> list[str]:
    """A command line as a message may show it; `--api-key VALUE` and `api_key=VALUE` lose the value."""
    shown = []
    before = ""
    for word in arguments:
        name, equals, _ = word.partition("=")
        if before.startswith("-") and _SECRET_NAME.fullmatch(before) and not word.startswith("-"):
            shown.append(_GONE)
        elif equals and _SECRET_NAME.fullmatch(name):
            shown.append(f"{name}={_GONE}")
        else:
            shown.append(without_secrets(word))
        before = word
    return shown


def _key_name(name: str, from_environment: bool) -> str:
    return "OPENAI_API_KEY" if from_environment else key_name(name)


def _read(url: str) -> tuple[str, str, SplitResult]:
    """The public base URL, the URL of a chat completion, and the parts."""
    try:
        parts = urlsplit(url)
        parts = parts._replace(path=parts.path.rstrip("/"))
        name = _public(parts)
    except ValueError:  # its text may hold a piece of the password
        raise ConfigError(
            "the base URL cannot be read. Expected one like http://127.0.0.1:8000/v1, its port a number, "
            "and any of / ? # @ in a password written as %2F %3F %23 %40."
        ) from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        shown = f"{parts.scheme}://{parts.hostname or ''}"
        raise ConfigError(f"{shown} is no http URL; expected one like http://127.0.0.1:8000/v1")
    calls = f"{name}/chat/completions"
    return name, f"{calls}?{parts.query}" if parts.query else calls, parts


def _public(parts: SplitResult) -> str:
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    place = f"{host}:{parts.port}" if parts.port else host
    return urlunsplit((parts.scheme, place, parts.path, "", ""))
