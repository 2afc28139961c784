"""What clients send and get, as FastAPI checks and documents it, and how bodies are read.

What concerns decisions, tasks, models and feedback itself is in `store.views`; here are the request bodies, the envelopes
of replies, and what every module of `serve.http.routes` needs: `JsonRoute`, `ServiceDep` and `Limit`.
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
from agent.types import ModelCard, RouteRequest, Source
from serve.errors import MalformedJson
from serve.messages import has_image, turns
from serve.routing.live import AUTO
from serve.service import Service
from store.feedback import FeedbackEvent, Thumb
from store.pool.file import Capability, Context, PoolModel, Price, Provider, ProviderEntry
from store.snapshots import SnapshotRow
from store.views import DecisionSummary, TaskView

T = TypeVar("T")

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
            candidates=candidates if self.is_auto else (self.model,),
            explore=steering.explore and self.is_auto,
            include_unavailable=isinstance(steering, RouteSteering) and steering.include_unavailable,
        )


class RouteBody(ChatBody):
    """A chat request that is to be routed, not answered."""

    thalweg: RouteSteering | None = None


class ChatReply(BaseModel):
    """The model's answer in OpenAI's shape, as it came, with a ``thalweg`` object; of a stream the first event has it."""

    model_config = ConfigDict(extra="allow")

    thalweg: DecisionSummary


class RatingIn(In):
    """Fields that scores and comparisons share."""

    decision_id: Name
    source: Source = "user"
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


class FeedbackResult(BaseModel):
    """What became of an event: its place in the log, or why it was refused and the field at fault."""

    index: int
    status: Literal["recorded", "revised", "duplicate", "refused"]
    seq: int | None = None
    reason: str | None = None
    param: str | None = None


class FeedbackReply(BaseModel):
    """One result an event, in their order."""

    results: list[FeedbackResult]


class ModelChange(In):
    """The fields of a model that can be changed, which stay as they are where left out; prices in USD per million tokens."""

    model_config = ConfigDict(strict=True)

    family: Annotated[StrictStr, Field(max_length=200)] = ""
    price_input: Price = 0.0
    price_output: Price = 0.0
    context: Context = 8192
    capabilities: list[Capability] = []
    priors: dict[str, Share] = Field(default={}, description="published quality by axis")
    provider: ProviderEntry | None = None


class ModelIn(ModelChange):
    """A model that joins the pool; prices in USD per million tokens."""

    name: Name
    provider: ProviderEntry

    @field_validator("name")
    @classmethod
    def _not_reserved(cls, name: str) -> str:
        if name == AUTO:
            raise ValueError(f"{AUTO!r} is how clients ask to be routed; give the model another name")
        return name

    def pool_model(self) -> PoolModel:
        """The pool's own value."""
        fields = self.model_dump(exclude={"provider", "capabilities"})
        card = ModelCard(**fields, capabilities=frozenset(self.capabilities))
        return PoolModel(card, Provider(**self.provider.model_dump()))


class ModelDeleted(BaseModel):
    """OpenAI's answer to a deletion."""

    id: str
    object: Literal["model"] = "model"
    deleted: Literal[True] = True


class ReasonIn(In):
    """Why a snapshot is made the champion by hand."""

    reason: Annotated[StrictStr, Field(max_length=1000)] | None = None


class Listed(BaseModel, Generic[T]):
    """A list in OpenAI's shape."""

    object: Literal["list"] = "list"
    data: Sequence[T]


class TaskList(Listed[TaskView]):
    """Tasks of the serving snapshot."""

    snapshot: int


class SnapshotList(Listed[SnapshotRow]):
    """Snapshots; ``serving`` is the one that this replica routes with."""

    serving: int | None


class ReportList(Listed[T], Generic[T]):
    """What has been learned of sources or raters, up to row ``position`` of the feedback log."""

    position: int


class Readiness(BaseModel):
    """Whether requests can be routed and recorded; ``degraded`` where an older snapshot than the champion serves."""

    status: Literal["ready", "degraded", "unready"]
    reason: str | None = None
    snapshot: int | None = None
    position: int | None = None


class ErrorDetail(BaseModel):
    """OpenAI's shape of an error; ``param`` is the path of the field at fault."""

    message: str
    type: str
    param: str | None
    code: str


class ErrorReply(BaseModel):
    """The answer to a request that failed."""

    error: ErrorDetail
