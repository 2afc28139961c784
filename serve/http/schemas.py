"""What clients send, as far as Thalweg reads it; every other field of a chat request passes through untouched."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictStr,
    ValidationError,
    field_validator,
    model_validator,
)

from agent.errors import InvalidInput
from agent.types import ModelCard, Source
from serve.http.errors import invalid
from store.pool.file import PoolModel, Provider
from store.pool.schema import Capability, Context, Price, ProviderEntry

AUTO = "auto"
"""The model name that asks to be routed."""

Share = Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False, strict=True)]
Amount = Annotated[float, Field(ge=0.0, allow_inf_nan=False, strict=True)]
Count = Annotated[int, Field(ge=1, strict=True)]
Name = Annotated[str, Field(min_length=1, max_length=200, strict=True)]


class Steering(BaseModel):
    """The ``thalweg`` object of a request: how to choose."""

    model_config = ConfigDict(extra="forbid", frozen=True)

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
    """The part of an OpenAI chat request that routing depends on; other fields go to the model as they are."""

    model_config = ConfigDict(extra="ignore", frozen=True)

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


class RouteBody(ChatBody):
    """A chat request that is to be routed, not answered."""

    thalweg: RouteSteering | None = None


class WordIn(BaseModel):
    """Somebody's word on an answer."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    decision_id: Name
    source: Source = "user"
    rater: Annotated[StrictStr, Field(max_length=200)] = Field(
        default="", description="who says so; again = a revision"
    )
    comment: Annotated[StrictStr, Field(max_length=10_000)] = ""
    idempotency_key: Name | None = Field(default=None, description="the same key again changes nothing")


class FeedbackIn(WordIn):
    """How good an answer was, says somebody: either a score or a thumb."""

    score: Share | None = Field(default=None, description="0 = useless, 1 = perfect")
    thumb: Literal["up", "down"] | None = Field(default=None, description="up = 1, down = 0")

    @model_validator(mode="after")
    def _one_verdict(self) -> Self:
        if (self.score is None) == (self.thumb is None):
            raise ValueError("give either score (0 to 1) or thumb ('up' or 'down')")
        return self

    @property
    def verdict(self) -> float:
        """The score, or what the thumb stands for."""
        return self.score if self.score is not None else float(self.thumb == "up")


class CompareIn(WordIn):
    """Which of two answers to the same request is better, says somebody."""

    other: Name = Field(description="the model whose answer the decision's was compared with")
    preferred: Name = Field(
        description="`decision` (the answer that was given), `other`, `tie`, or the name of the preferred model"
    )

    @property
    def names_a_model(self) -> bool:
        """Whether it takes the decision's own model to understand ``preferred``."""
        return self.preferred not in ("decision", "other", "tie", self.other)

    def verdict(self, answered: str | None) -> float:
        """1 where the answer that was given is preferred, 0 where the other is, 0.5 for a tie.

        Parameters
        ----------
        answered
            The decision's model, needed where `names_a_model`; None where there is no such decision.
        """
        if self.preferred == "tie":
            return 0.5
        if self.preferred in ("other", self.other):
            return 0.0
        if self.preferred == "decision" or answered in (self.preferred, None):
            return 1.0
        raise InvalidInput(
            f"preferred is {self.preferred!r}; give decision, other, tie, or one of the two models "
            f"({answered!r}, {self.other!r})",
            param="preferred",
        )


class ModelIn(BaseModel):
    """A model that joins the pool; prices are USD per million tokens, priors are qualities by axis."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    name: Name
    family: Annotated[StrictStr, Field(max_length=200)] = ""
    price_input: Price = 0.0
    price_output: Price = 0.0
    context: Context = 8192
    capabilities: list[Capability] = []
    priors: dict[str, Share] = {}
    provider: ProviderEntry

    @field_validator("name")
    @classmethod
    def _not_reserved(cls, name: str) -> str:
        if name == AUTO:
            raise ValueError(f"{AUTO!r} is how clients ask to be routed; give the model another name")
        return name

    def pool_model(self) -> PoolModel:
        """The value that crosses rooms."""
        fields = self.model_dump(exclude={"provider", "capabilities"})
        card = ModelCard(**fields, capabilities=frozenset(self.capabilities))
        return PoolModel(card, Provider(**self.provider.model_dump()))


class PromoteIn(BaseModel):
    """Why a snapshot is promoted, or rolled back to, by hand."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    reason: Annotated[StrictStr, Field(max_length=1000)] = "promoted by hand"


class RollbackIn(PromoteIn):
    """Why the last champion is to serve again."""

    reason: Annotated[StrictStr, Field(max_length=1000)] = "rolled back by hand"


Body = TypeVar("Body", bound=BaseModel)


def read(kind: type[Body], value: Any, at: str = "") -> Body:
    """Validate ``value`` as ``kind``; raises `InvalidInput` that names the fields at fault under the path ``at``."""
    if not isinstance(value, dict):
        raise InvalidInput(f"{at or 'the body'}: give a JSON object", param=at or None)
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        raise invalid(error, _fields(kind), at) from error


_NESTED: dict[type[BaseModel], type[BaseModel]] = {
    ChatBody: Steering,
    RouteBody: RouteSteering,
    ModelIn: ProviderEntry,
}


def _fields(kind: type[BaseModel]) -> list[str]:
    """Names of ``kind``'s fields and of those of its nested object, for "did you mean"."""
    nested: type[BaseModel] | None = _NESTED.get(kind)
    return [*kind.model_fields, *(nested.model_fields if nested else ())]
