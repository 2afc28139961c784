"""The shape of a pool file's entries, which the file and later changes are checked against."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Kind = Literal["openai", "embedded"]
Capability = Literal["tools", "vision", "json"]
Name = Annotated[str, Field(min_length=1, max_length=200)]
Price = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Context = Annotated[int, Field(gt=0, lt=2**31)]
BaseUrl = Annotated[str, Field(pattern=r"^https?://")]


class Strict(BaseModel):
    """Base of the entries: no unknown keys, no conversion of types."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class PoolEntries(Strict):
    version: Literal[1]
    benchmarks: dict[str, Any] = {}
    models: list[Any]


class BenchmarkEntry(Strict):
    axis: Name
    floor: float
    ceiling: float

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if not self.floor < self.ceiling:
            raise ValueError(f"its floor ({self.floor}) is not below its ceiling ({self.ceiling})")
        return self

    def rescale(self, score: float) -> float:
        """``score`` rescaled from [floor, ceiling] to [0, 1], and clipped."""
        return min(max((score - self.floor) / (self.ceiling - self.floor), 0.0), 1.0)


class PriorEntry(Strict):
    axis: Name
    benchmark: Name
    score: Annotated[float, Field(ge=0, le=1)]
    source: Name


class PriceEntry(Strict):
    input: Price
    output: Price


class ProviderEntry(Strict):
    kind: Kind
    base_url: BaseUrl | None = None
    api_key_env: Name | None = None
    model: Name | None = None

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        if self.kind == "openai" and self.base_url is None:
            raise ValueError("of kind 'openai' needs a base_url")
        return self


class ModelEntry(Strict):
    name: Name
    family: str = ""
    provider: ProviderEntry
    price: PriceEntry
    context: Context
    capabilities: list[Capability] = []
    priors: list[PriorEntry] = []
