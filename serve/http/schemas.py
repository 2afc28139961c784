"""What clients send, as FastAPI checks and documents it, and how it is read.

Here are the request bodies, chat messages as the turns of text that the router reads, and what every module of
`serve.http.routes` needs: `JsonRoute`, `ServiceDep`, `Limit`, `Listed`. Replies are views of `store.views`.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Annotated, Any, Generic, Literal, Self, TypeVar

import orjson
from fastapi import Depends, Request, Response
from fastapi.routing import APIRoute
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictStr,
    field_validator,
    model_validator,
)
from starlette.datastructures import MutableHeaders

from agent.errors import InvalidInput
from agent.types import ModelCard, RouteRequest, Turn
from serve.errors import MalformedJson, path
from serve.routing.live import AUTO
from serve.service import Service
from store.columns import utc_now
from store.feedback import FeedbackEvent, Thumb
from store.pool.file import (
    FIGURES,
    Capability,
    Context,
    OutputTokens,
    PoolModel,
    Price,
    Provider,
    ProviderEntry,
    header_value,
    pool_model,
)

T = TypeVar("T")

_ROLES = ("system", "developer", "user", "assistant", "tool", "function")
_TEXTS = {"text": "text", "refusal": "refusal"}
_IMAGES = ("image_url", "input_image")

Share = Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False, strict=True)]
Amount = Annotated[float, Field(ge=0.0, allow_inf_nan=False, strict=True)]
Count = Annotated[int, Field(ge=1, strict=True)]
Name = Annotated[str, Field(min_length=1, max_length=200, strict=True)]
Limit = Annotated[int, AfterValidator(lambda limit: max(1, min(limit, 1000)))]
"""How many rows a list has at most; brought into 1..1000."""


async def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


ServiceDep = Annotated[Service, Depends(_service)]


class JsonRoute(APIRoute):
    """A route that reads its body with orjson: as JSON whatever its content type is, since that of curl's ``-d`` is not."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's handler, after the body has been parsed."""
        handle = super().get_route_handler()
        field = self.body_field
        if field is None:
            return handle

        async def parse(request: Request) -> Response:
            body = await request.body()
            MutableHeaders(scope=request.scope)["content-type"] = "application/json"
            request._json = parse_json(body) if body.strip() or field.field_info.is_required() else {}
            return await handle(request)

        return parse


def parse_json(body: bytes) -> Any:
    """Read JSON; raises `MalformedJson` that says where it is wrong."""
    if not body.strip():
        raise MalformedJson("the body is empty; send JSON")
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise MalformedJson(f"the body is not JSON: {error.msg.partition(': line')[0]} "
                            f"(line {error.lineno}, column {error.colno})") from error  # fmt: skip


class In(BaseModel):
    """Base of request bodies that know all their fields."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Steering(In):
    """The ``thalweg`` object of a request: how to choose."""

    cost_quality_tradeoff: Share = Field(default=0.8, description="0 = cheapest, 1 = best quality, whatever it costs")
    max_cost: Amount | None = Field(default=None, description="USD that this request may be expected to cost at most")
    deadline_s: Annotated[float, Field(gt=0.0, allow_inf_nan=False, strict=True)] | None = Field(
        default=None,
        description="seconds: models of whose calls one in ten takes longer are left out; the call is not cut off",
    )
    candidates: Annotated[list[Name], Field(min_length=1)] | None = Field(
        default=None, description="choose among these only"
    )
    session: Name | None = Field(
        default=None, description="conversation that the request belongs to; kept with the decision"
    )
    explore: StrictBool = Field(default=True, description="false: always the model of highest utility")


class RouteSteering(Steering):
    """The same for ``/v1/route``, which can also rank models that cannot be called now."""

    include_unavailable: StrictBool = Field(
        default=False, description="also rank models whose key or weights are missing"
    )


class ChatBody(BaseModel):
    """An OpenAI chat request: the fields that routing depends on. All others are passed to the model as they are."""

    model_config = ConfigDict(extra="allow", frozen=True)

    model: Name = Field(default=AUTO, description="`auto` to be routed, or a model's name to go straight there")
    messages: Annotated[list[dict[str, Any]], Field(min_length=1)]
    stream: StrictBool | None = None
    max_tokens: Count | None = None
    max_completion_tokens: Count | None = None
    tools: list[dict[str, Any]] | None = None
    functions: list[dict[str, Any]] | None = None
    response_format: dict[str, Any] | None = None
    thalweg: Steering | None = None

    @property
    def is_auto(self) -> bool:
        """Whether the client leaves the choice to Thalweg."""
        return self.model == AUTO

    def route_request(self) -> RouteRequest:
        """What this asks of the router; raises `InvalidInput` that names the message or content part at fault."""
        steering = self.thalweg or Steering()
        candidates = tuple(steering.candidates) if steering.candidates else None
        is_json = str((self.response_format or {}).get("type", "")).startswith("json")
        needs = {"tools": self.tools or self.functions, "json": is_json, "vision": has_image(self.messages)}
        return RouteRequest(
            turns=turns(self.messages),
            requires=frozenset(capability for capability, needed in needs.items() if needed),
            output_tokens=self.max_completion_tokens or self.max_tokens,
            cost_quality_tradeoff=steering.cost_quality_tradeoff,
            max_cost=steering.max_cost,
            deadline_s=steering.deadline_s,
            candidates=candidates if self.is_auto else (self.model,),
            explore=steering.explore and self.is_auto,
            include_unavailable=isinstance(steering, RouteSteering) and steering.include_unavailable,
        )


class RouteBody(ChatBody):
    """A chat request that is to be routed, not answered."""

    thalweg: RouteSteering | None = None


class RatingIn(In):
    """Fields that scores and comparisons share."""

    decision_id: Name
    source: Literal["user", "judge", "implicit"] = "user"
    rater: Annotated[StrictStr, Field(max_length=200)] = Field(
        default="", description="who rates; the same rater again revises"
    )
    comment: Annotated[StrictStr, Field(max_length=10_000)] = ""
    idempotency_key: Name | None = Field(default=None, description="the same key again changes nothing")

    def event(self, key: str, answered: Mapping[str, str]) -> FeedbackEvent:
        """The event, posted with the API key named ``key``; ``answered`` maps decisions to their models, of a comparison."""
        raise NotImplementedError


class FeedbackIn(RatingIn):
    """How good an answer was: either a score or a thumb."""

    score: Share | None = Field(default=None, description="0 = useless, 1 = perfect")
    thumb: Thumb | None = Field(default=None, description="up = 1, down = 0")

    @model_validator(mode="after")
    def _one_rating(self) -> Self:
        if (self.score is None) == (self.thumb is None):
            raise ValueError("give either score (0 to 1) or thumb ('up' or 'down')")
        return self

    def event(self, key: str, answered: Mapping[str, str]) -> FeedbackEvent:
        """The event; its score is 1 for a thumb up, 0 for a thumb down."""
        score = float(self.thumb == "up") if self.score is None else self.score
        return FeedbackEvent(**self.model_dump() | {"score": score, "key": key})


class CompareIn(RatingIn):
    """Which of two answers to the same request is better."""

    other: Name = Field(description="the model whose answer the decision's was compared with")
    preferred: Name = Field(
        description="`decision` (the answer that was given), `other`, `tie`, or the name of the preferred model"
    )

    def event(self, key: str, answered: Mapping[str, str]) -> FeedbackEvent:
        """The event; its score is 1 where the given answer is preferred, 0 where the other is, 0.5 for a tie."""
        model = answered.get(self.decision_id, self.preferred)  # of no decision, which the log refuses
        scores = {"tie": 0.5, "other": 0.0, self.other: 0.0, "decision": 1.0, model: 1.0}
        if self.preferred not in scores:
            raise InvalidInput(
                f"preferred is {self.preferred!r}; give decision, other, tie, or one of the two models "
                f"({model!r}, {self.other!r})",
                param="preferred",
            )
        return FeedbackEvent(**self.model_dump(exclude={"preferred"}), score=scores[self.preferred], key=key)


def model_name(name: str) -> str:
    """A name that a model may have."""
    if name == AUTO:
        raise ValueError(f"{AUTO!r} is how clients ask to be routed; give the model another name")
    return header_value(name)


class ModelChange(In):
    """The fields of a model that can be changed, which stay as they are where left out; prices in USD per million tokens."""

    model_config = ConfigDict(strict=True)

    family: Annotated[StrictStr, Field(max_length=200)] = ""
    price_input: Price | None = Field(default=None, description="null: as published for the endpoint; 0: free")
    price_output: Price | None = None
    context: Context | None = None
    capabilities: list[Capability] = []
    priors: dict[str, Share] = Field(default={}, description="published quality by axis")
    output_tokens: OutputTokens | None = Field(
        default=None, description="expected length of an answer, thinking included; outcomes of calls replace it"
    )
    provider: ProviderEntry | None = None


class ModelIn(ModelChange):
    """A model that joins the pool; prices in USD per million tokens."""

    name: Name
    provider: ProviderEntry
    check: StrictBool = Field(default=True, description="false: requests are routed to it unchecked")

    _checked = field_validator("name")(model_name)

    def pool_model(self) -> PoolModel:
        """The pool's own value."""
        fields = self.model_dump(exclude={"provider", "capabilities", "check"})
        given = {name for name in FIGURES if fields[name] is not None}
        known = {name: value for name, value in fields.items() if name in given or name not in FIGURES}
        card = ModelCard(**known, capabilities=frozenset(self.capabilities))
        return pool_model(card, Provider(**self.provider.model_dump()), given=given, now=utc_now())


class ReplaceIn(ModelChange):
    """The model that replaces another; of one that joins the pool, what is left out is as of the replaced one, prices and
    context as published."""

    name: Name
    check: StrictBool = Field(default=True, description="false: requests are routed to it unchecked")
    _checked = field_validator("name")(model_name)

    def given(self) -> dict[str, Any]:
        """What is given of it, as `store.pool.replace.replace_model` takes it."""
        fields = self.model_dump(exclude_unset=True, exclude_none=True, exclude={"name", "check"})
        if "capabilities" in fields:
            fields["capabilities"] = frozenset(self.capabilities)
        if self.provider is not None:
            fields["provider"] = Provider(**self.provider.model_dump())
        return fields


class ReasonIn(In):
    """Why a snapshot is made the champion by hand."""

    reason: Annotated[StrictStr, Field(max_length=1000)] | None = None


class Listed(BaseModel, Generic[T]):
    """A list in OpenAI's shape."""

    object: Literal["list"] = "list"
    data: Sequence[T]


def turns(messages: Sequence[Mapping[str, Any]]) -> tuple[Turn, ...]:
    """The text of each message; content parts without text (images, audio, files) count for nothing.

    Raises
    ------
    InvalidInput
        Where a message or part is not of OpenAI's shape, or no message holds any content; ``param`` is its path.
    """
    found = tuple(_turn(message, i) for i, message in enumerate(messages))
    if not any(t.text.strip() for t in found) and not any(p["type"] not in _TEXTS for m in messages for p in _parts(m)):
        raise InvalidInput("messages: every message is empty; give at least one some text", param="messages")
    return found


def has_image(messages: Sequence[Mapping[str, Any]]) -> bool:
    """Whether any content part is an image."""
    return any(isinstance(part, Mapping) and part.get("type") in _IMAGES for m in messages for part in _parts(m))


def _turn(message: Mapping[str, Any], i: int) -> Turn:
    role, content = message.get("role"), message.get("content")
    if role not in _ROLES:
        raise _invalid(f"give one of {', '.join(_ROLES)}, not {role!r}", i, "role")
    if content is None and role == "assistant":
        return Turn(role, "")  # a turn that only calls tools
    if isinstance(content, str):
        return Turn(role, content)
    if not isinstance(content, list):
        raise _invalid("give a string or a list of content parts", i, "content")
    return Turn(role, "\n".join(filter(None, (_text(part, i, j) for j, part in enumerate(content)))))


def _text(part: Any, i: int, j: int) -> str:
    kind = part.get("type") if isinstance(part, Mapping) else None
    if not isinstance(kind, str):
        raise _invalid("give an object with a type, as {'type': 'text', 'text': ...}", i, "content", j)
    if kind not in _TEXTS:
        return ""
    text = part.get(_TEXTS[kind])
    if not isinstance(text, str):
        raise _invalid("give a string", i, "content", j, _TEXTS[kind])
    return text


def _parts(message: Mapping[str, Any]) -> Sequence[Any]:
    content = message.get("content")
    return content if isinstance(content, list) else ()


def _invalid(message: str, *steps: str | int) -> InvalidInput:
    where = path("messages", *steps)
    return InvalidInput(f"{where}: {message}", param=where)
