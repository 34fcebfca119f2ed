"""Builds the OpenAPI 3.1 document from the declared routes and the pydantic models. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final, Literal

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from pipeline.web.routes import PREFIX, PUBLISHED, STRICT, Models, Parameter, Route
from schemas.event_types import BUILT_IN
from schemas.http.answers import ErrorAnswer, InvalidAnswer

_Mode = Literal["validation", "serialization"]
_Schemas = Mapping[Any, dict[str, Any]]
"""References by model and mode."""

_EVENT_TYPE: Final = "EventType"
_JSON: Final = "application/json"
_ABOUT: Final = (
    "Webhooks of an order management system: register endpoints, and see what was sent to them. "
    "Times are ISO 8601 in UTC with milliseconds. Durations are in milliseconds. "
    "A GET ignores unknown parameters and lists them in `ignored_filters` of its response. With `strict=1`, and in requests that "
    "send, export or change something, they are an error (422). "
    "A key has the role viewer, operator or admin. Each role includes the rights of the roles before it."
)


def openapi(routes: Sequence[Route[Any]], version: str, event_names: Sequence[str] = BUILT_IN.names) -> dict[str, Any]:
    """The document: every route, every status. ``event_names`` are the deployment's event types."""
    wanted: list[tuple[type[BaseModel], _Mode]] = [(ErrorAnswer, "serialization"), (InvalidAnswer, "serialization")]
    for route in routes:
        wanted += [(model, "serialization") for models in route.answers.values() for model in _models(models)]
        wanted += [(route.body, "validation")] if route.body is not None else []
    schemas, definitions = models_json_schema(list(dict.fromkeys(wanted)), ref_template="#/components/schemas/{model}")
    components = _with_event_types(definitions.get("$defs", {}), event_names)
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(PREFIX + route.path, {})[route.method.lower()] = _operation(route, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "OMS webhooks", "version": version, "description": _ABOUT},
        "servers": [{"url": "/"}, {"url": PUBLISHED, "description": "The base path of the OMS's published API."}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"api_key": {"type": "http", "scheme": "bearer", "description": "An API key."}},
        },
    }


def _with_event_types(components: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Replace all copies of the enum of event types by references to one model."""
    known: dict[str, Any] = {}

    def referring(part: Any) -> Any:
        if isinstance(part, list):
            return [referring(one) for one in part]
        if not isinstance(part, dict):
            return part
        if part.get("title") == _EVENT_TYPE and "enum" in part:
            known[_EVENT_TYPE] = {**part, "enum": list(names)}
            if names != BUILT_IN.names:
                known[_EVENT_TYPE]["description"] = "The event types of this deployment."
            return {"$ref": f"#/components/schemas/{_EVENT_TYPE}"}
        return {name: referring(one) for name, one in part.items()}

    referred = {name: referring(model) for name, model in components.items() if name != _EVENT_TYPE}
    return dict(sorted((referred | known).items()))


def _operation(route: Route[Any], schemas: _Schemas) -> dict[str, Any]:
    answers = {str(status): _answer(status, models, schemas) for status, models in route.answers.items()}
    refusals = {str(status): _refusal(status, schemas) for status in route.refusals()}
    operation: dict[str, Any] = {
        "operationId": operation_id(route),
        "tags": [tag(route)],
        "summary": route.summary,
        "description": " ".join(filter(None, (route.description, _access(route)))),
        "security": [] if route.access is None else [{"api_key": []}],
        "parameters": list(_parameters(route)),
        "responses": answers | refusals,
    }
    if route.body is not None:
        # A body may be left out if all its members have defaults.
        is_needed = any(field.is_required() for field in route.body.model_fields.values())
        operation["requestBody"] = {"required": is_needed, "content": {_JSON: {"schema": schemas[route.body, "validation"]}}}
    return operation


def operation_id(route: Route[Any]) -> str:
    """The unique name of a route: ``patch_endpoints_id``."""
    parts = route.path.removeprefix("/webhook/").replace("{", "").replace("}", "").replace(".", "_").split("/")
    return "_".join([route.method.lower(), *parts])


def tag(route: Route[Any]) -> str:
    """The group of a route: the first part of its path."""
    return route.path.removeprefix("/webhook/").partition("/")[0].partition(".")[0]


def _access(route: Route[Any]) -> str:
    return "Needs no key." if route.access is None else f"Needs a key with the {route.access.value} role."


def _models(models: Models) -> tuple[type[BaseModel], ...]:
    if models is None or isinstance(models, str):
        return ()
    return models if isinstance(models, tuple) else (models,)


def _answer(status: int, models: Models, schemas: _Schemas) -> dict[str, Any]:
    described: dict[str, Any] = {"description": HTTPStatus(status).phrase}
    if isinstance(models, str):
        described["content"] = {models: {}}
    elif found := [schemas[model, "serialization"] for model in _models(models)]:
        described["content"] = {_JSON: {"schema": found[0] if len(found) == 1 else {"anyOf": found}}}
    return described


def _refusal(status: int, schemas: _Schemas) -> dict[str, Any]:
    model: type[BaseModel] = InvalidAnswer if status == HTTPStatus.UNPROCESSABLE_ENTITY else ErrorAnswer
    return _answer(status, model, schemas)


def _parameters(route: Route[Any]) -> Iterable[dict[str, Any]]:
    if "{id}" in route.path:
        yield {"name": "id", "in": "path", "required": True, "schema": dict(route.id_schema)}
    strict = () if route.acts or STRICT in route.parameters else (STRICT,)
    for parameter in (*route.parameters, *strict):
        yield _parameter(parameter)


def _parameter(parameter: Parameter) -> dict[str, Any]:
    described = {
        "name": parameter.name,
        "in": parameter.place,
        "required": False,
        "description": parameter.description,
        "schema": dict(parameter.schema),
    }
    return described | ({"style": parameter.style, "explode": True} if parameter.style != "form" else {})
