"""Tools from OpenAPI documents: the only place that reads operations, their parameters and bodies.

Invariant: a tool's schema stands by itself (what it refers to comes along in `$defs`), and no document is fetched.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, cast

from synthkd.errors import ConfigError
from synthkd.tools.http import Operation, Place, Service, service
from synthkd.tools.tool import Tool

_METHODS = ("get", "put", "post", "delete", "patch", "head", "options")
_IGNORED = frozenset({"accept", "content-type", "authorization"})
"""Header parameters that OpenAPI says are to be ignored."""
_FORMS = ("application/json", "application/x-www-form-urlencoded")
_SCHEMAS = "#/components/schemas/"


def openapi(
    document: Mapping[str, Any] | str | Path,
    *,
    base_url: str | None = None,
    headers: Mapping[str, str] | None = None,
    query: Mapping[str, str] | None = None,
    operations: Collection[str] | None = None,
    timeout: float = 60.0,
    tries: int = 4,
) -> tuple[Tool, ...]:
    """A tool for each operation of an OpenAPI 3 document, called over HTTP.

    What the server refuses (a status of 400 and above) is told to the teacher with the body. What may pass (no
    connection, 429, 5xx) is tried again, and then costs the record (`tool unavailable`), with nothing journaled; 401
    stops the run. Redirects are not followed, for they would carry the headers elsewhere.

    Args:
        document: the document, or the path of its JSON or YAML file.
        base_url: where it is served; by default the first of the document's servers. Without credentials or a query.
        headers: sent with every call, such as `{"Authorization": "Bearer ..."}`. Their values count as secret: they are
            no arguments, and are taken out of what the server answers.
        query: the same, for keys that go into the query.
        operations: the ids of those that become tools; by default all.
        timeout: seconds for one call.
        tries: how often one call is made before it fails for good.

    Raises:
        ConfigError: the document cannot be read, has no server, or an operation takes what is not supported.
        MissingExtra: jsonschema is not installed.
    """
    found = _read(document)
    if not str(found.get("openapi", "")).startswith("3."):
        raise ConfigError(
            f"the document says openapi={found.get('openapi')!r}, swagger={found.get('swagger')!r}; expected OpenAPI 3"
        )
    place = service(base_url or _server(found), headers or {}, query or {}, timeout, tries)
    tools: dict[str, Tool] = {}
    for name, method, path, operation in _operations(found):
        if operations is not None and name not in operations:
            continue
        if name in tools:
            raise ConfigError(f"two operations are called {name!r}: give each an operationId of its own")
        tools[name] = _tool(found, place, name, method, path, operation)
    if missing := set(operations or ()) - tools.keys():
        there = ", ".join(sorted(name for name, *_ in _operations(found)))
        raise ConfigError(f"there is no operation {', '.join(sorted(missing))}; there are: {there}")
    return tuple(tools.values())


def _read(document: Mapping[str, Any] | str | Path) -> Mapping[str, Any]:
    if isinstance(document, Mapping):
        return document
    import yaml

    try:
        found = yaml.safe_load(Path(document).read_text(encoding="utf-8"))  # JSON is YAML
    except OSError as error:
        raise ConfigError(f"{document}: cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{document}: is neither JSON nor YAML: {error}") from None
    if not isinstance(found, Mapping):
        raise ConfigError(f"{document}: holds a {type(found).__name__}, expected an OpenAPI document")
    return found


def _server(document: Mapping[str, Any]) -> str:
    servers = document.get("servers") or [{}]
    url = str(servers[0].get("url", ""))
    for name, variable in (servers[0].get("variables") or {}).items():
        url = url.replace(f"{{{name}}}", str(variable.get("default", "")))
    if not url.startswith(("http://", "https://")):
        raise ConfigError(f"the document names the server {url!r}: pass base_url='https://...'")
    return url


def _operations(document: Mapping[str, Any]) -> Iterator[tuple[str, str, str, Mapping[str, Any]]]:
    """Name, method, path and description of each operation, the path's own parameters included."""
    for path, item in (document.get("paths") or {}).items():
        for method in _METHODS:
            if not isinstance(operation := item.get(method), Mapping):
                continue
            name = re.sub(r"[^A-Za-z0-9_-]+", "_", operation.get("operationId") or f"{method}{path}").strip("_")[:64]
            own = [_resolved(document, one) for one in operation.get("parameters", ())]
            known = {(one["name"], one["in"]) for one in own}
            shared = [_resolved(document, one) for one in item.get("parameters", ())]
            merged = [one for one in shared if (one["name"], one["in"]) not in known] + own
            yield name, method, path, {**operation, "parameters": merged}


def _tool(
    document: Mapping[str, Any], place: Service, name: str, method: str, path: str, operation: Mapping[str, Any]
) -> Tool:
    properties: dict[str, Any] = {}
    required: list[str] = []
    places: dict[str, Place] = {}
    for one in operation["parameters"]:
        where, title = one["in"], one["name"]
        if where == "cookie" or (where == "header" and title.lower() in _IGNORED) or place.gives(where, title):
            continue
        argument = title if title not in properties else f"{where}_{title}"
        content: Mapping[str, Any] = next(iter((one.get("content") or {}).values()), {})
        shape = dict(one.get("schema") or content.get("schema") or {})
        if said := one.get("description"):
            shape.setdefault("description", said)
        properties[argument] = shape
        places[argument] = Place(where, title, one.get("explode", where == "query"), one.get("style") == "deepObject")
        if one.get("required") or where == "path":
            required.append(argument)
    form = ""
    if body := operation.get("requestBody"):
        body = _resolved(document, body)
        form, inner = _body(name, body)
        argument = "body" if "body" not in properties else "request_body"
        properties[argument] = inner
        places[argument] = Place("body", argument)
        if body.get("required"):
            required.append(argument)
    parameters: dict[str, Any] = {"type": "object", "properties": properties, "additionalProperties": False}
    if required:
        parameters["required"] = required
    texts = (operation.get("summary"), operation.get("description"))
    described = "\n".join(dict.fromkeys(text.strip() for text in texts if text)) or f"{method.upper()} {path}"
    call = partial(place.call, Operation(method.upper(), path, places, form))
    return Tool(name, described, _standing_alone(document, parameters), call)


def _body(name: str, body: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    content = body.get("content") or {}
    for kind, media in content.items():
        plain = kind.partition(";")[0].strip().lower()
        form = "application/json" if plain.endswith("+json") else plain
        if form in _FORMS:
            return form, media.get("schema") or {}
    raise ConfigError(
        f"the operation {name!r} takes a body of {', '.join(content) or 'no kind'}; supported: {', '.join(_FORMS)}. "
        "Leave it out: openapi(..., operations=[...])"
    )


def _resolved(document: Mapping[str, Any], node: Mapping[str, Any]) -> Mapping[str, Any]:
    """A part of the document, or what its `$ref` stands for."""
    for _ in range(16):
        if "$ref" not in node:
            return node
        found: Any = document
        for part in str(node["$ref"]).removeprefix("#/").split("/"):
            found = found.get(part.replace("~1", "/").replace("~0", "~")) if isinstance(found, Mapping) else None
        if not isinstance(found, Mapping):
            raise ConfigError(f"the document refers to {node['$ref']!r}, which is not in it")
        node = found
    raise ConfigError(f"the reference {node['$ref']!r} goes round in a circle")


def _standing_alone(document: Mapping[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """A schema in today's JSON Schema, with what it refers to."""
    defs: dict[str, Any] = {}
    wanted: list[str] = []

    def moved(node: Any) -> Any:
        if isinstance(node, list):
            return [moved(one) for one in node]
        if not isinstance(node, Mapping):
            return node
        if isinstance(ref := node.get("$ref"), str):
            if not ref.startswith(_SCHEMAS):
                return moved(_resolved(document, node))
            wanted.append(ref.removeprefix(_SCHEMAS))
            return {"$ref": f"#/$defs/{wanted[-1]}"}
        return _modern({name: moved(inner) for name, inner in node.items()})

    found = moved(schema)
    while wanted:
        name = wanted.pop()
        if name not in defs:
            defs[name] = None  # known from here on, for it may refer to itself
            defs[name] = moved(_resolved(document, {"$ref": _SCHEMAS + name}))
    return {**found, "$defs": defs} if defs else cast("dict[str, Any]", found)


def _modern(node: dict[str, Any]) -> dict[str, Any]:
    """What OpenAPI 3.0 says otherwise than JSON Schema does: `nullable`, and exclusive bounds as a truth value."""
    nullable = node.pop("nullable", False)
    for bound, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if isinstance(node.get(exclusive), bool) and node.pop(exclusive) and bound in node:
            node[exclusive] = node.pop(bound)
    return {"anyOf": [node, {"type": "null"}]} if nullable is True else node
