"""What routes share: the service behind them, and bodies read by our own JSON parser."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import Depends, Request
from pydantic import BaseModel

from serve.http.errors import parse_json
from serve.service import Service


async def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


async def _json(request: Request) -> Any:
    return parse_json(await request.body())


async def _optional_json(request: Request) -> Any:
    body = await request.body()
    return parse_json(body) if body.strip() else {}


Context = Annotated[Service, Depends(_service)]
JsonBody = Annotated[Any, Depends(_json)]
OptionalJsonBody = Annotated[Any, Depends(_optional_json)]


def documented(schema: type[BaseModel], *, many: bool = False) -> dict[str, Any]:
    """``openapi_extra`` of a route that reads its body by itself."""
    whole = schema.model_json_schema()
    one = _inlined(whole, whole.pop("$defs", {}))
    shape = {"oneOf": [one, {"type": "array", "items": one, "minItems": 1}]} if many else one
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": shape}}}}


def _inlined(schema: Any, definitions: Mapping[str, Any]) -> Any:
    """``schema`` with each ``$ref`` replaced by what it stands for: OpenAPI looks for them elsewhere."""
    if isinstance(schema, list):
        return [_inlined(item, definitions) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _inlined(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    return {key: _inlined(value, definitions) for key, value in schema.items()}
