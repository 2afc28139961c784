"""The pool file: the models that may be called, their prices and published scores; and the shape of its entries.

A file with a mistake is refused as a whole; the error lists every problem with its line, key and a correction. Later changes
of a model are checked against the same entries.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any, Literal, Self, TypeVar

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from agent.errors import BadDataFile, did_you_mean
from agent.types import ModelCard
from store.joins import Join, JoinState
from store.pool.published import published_figures

Location = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class YamlFile:
    """A parsed file: its ``data``, the line of each key and item, and the keys that appear twice in a mapping."""

    data: Any
    lines: dict[Location, int]
    repeated: list[tuple[Location, int]]

    def line(self, location: Location) -> int:
        """The line of a location, or of the innermost part of it that is in the file."""
        while location and location not in self.lines:
            location = location[:-1]
        return self.lines.get(location, 1)


def read_yaml(path: Path) -> YamlFile:
    """Parse a file.

    Raises
    ------
    BadDataFile
        Where it cannot be read or is not YAML; names the line.
    """
    try:
        text = path.read_text()
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        data = yaml.safe_load(text)
    except OSError as error:
        raise BadDataFile(f"{path}: {error.strerror}", param=str(path)) from error
    except UnicodeDecodeError as error:
        raise BadDataFile(f"{path}: not a text file in UTF-8 ({error.reason})", param=str(path)) from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise BadDataFile(f"{path}, line {line}: not YAML: {error.problem}", param=str(path)) from error
    except (yaml.YAMLError, ValueError) as error:  # a control character; a date that does not exist
        raise BadDataFile(f"{path}: not YAML: {error}", param=str(path)) from error
    lines: dict[Location, int] = {}
    repeated: list[tuple[Location, int]] = []
    for location, line in _walk(root, ()) if root is not None else ():
        if location in lines and isinstance(location[-1], str):
            repeated.append((location, line))
        lines.setdefault(location, line)
    return YamlFile(data, lines, repeated)


def _walk(node: yaml.Node, at: Location) -> Iterator[tuple[Location, int]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            here = (*at, str(key.value))
            yield here, key.start_mark.line + 1
            yield from _walk(value, here)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield (*at, index), item.start_mark.line + 1
            yield from _walk(item, (*at, index))


Kind = Literal["openai", "embedded"]


Capability = Literal["tools", "vision", "json"]


def header_value(name: str) -> str:
    """The name, where it can be sent as the value of an HTTP header, as answers do."""
    if not (name.isascii() and name.isprintable() and name == name.strip()):
        raise ValueError(
            "a model's name is sent in a header: use ASCII letters, digits and signs, no blanks at its ends"
        )
    return name


Name = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(header_value)]


Price = Annotated[float, Field(ge=0, allow_inf_nan=False)]


Context = Annotated[int, Field(gt=0, lt=2**31)]


OutputTokens = Annotated[int, Field(gt=0, lt=2**31)]


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
    price: PriceEntry | None = None
    context: Context | None = None
    capabilities: list[Capability] = []
    priors: list[PriorEntry] = []
    output_tokens: OutputTokens | None = None
    replaces: Name | None = None


M = TypeVar("M", bound=BaseModel)


PRIOR_RANGE = (0.02, 0.98)
"""Axis priors are clipped to this range: a published figure is no certainty."""


@dataclass(frozen=True, slots=True)
class Provider:
    """Where a model is called.

    Parameters
    ----------
    kind
        ``openai``: any OpenAI-compatible endpoint; ``embedded``: the local model.
    base_url
        URL of the endpoint, up to ``/v1``.
    api_key_env
        Name of the environment variable with its key; None where it needs none.
    model
        The provider's id of the model; None where it is the model's name.
    """

    kind: Kind
    base_url: str | None = None
    api_key_env: str | None = None
    model: str | None = None


@dataclass(frozen=True, slots=True)
class PoolModel:
    """A model of the pool.

    Parameters
    ----------
    card, provider
        What the router knows of it, and where it is called.
    removed
        A client removed it.
    unknown
        Of `FIGURES`, those that are not known; the card holds 0, or a short context.
    join
        How it came into the pool; None where it was there from the start. Two models are equal whatever it is.
    """

    card: ModelCard
    provider: Provider
    removed: bool = False
    unknown: frozenset[str] = frozenset()
    join: Join | None = field(default=None, compare=False)

    @property
    def state(self) -> JoinState:
        """How far its joining the pool has come."""
        return "adopted" if self.join is None else self.join.state

    @property
    def check(self) -> Mapping[str, Any]:
        """What its check found, see `jobs.onboard.check.Found`; empty where it was not checked."""
        found: Mapping[str, Any] = {} if self.join is None else self.join.found.get("check", {})
        return found

    @property
    def routed_card(self) -> ModelCard:
        """The card, which says whether the pool may yet need the model or not, and where it answers only who names it."""
        if self.join is None or self.join.state == "adopted":
            return self.card
        why = self.join.resting_reason
        return replace(self.card, resting=why, on_trial=why is None)

    @property
    def unrouted_reason(self) -> str | None:
        """Why no request may be sent to it, whatever its endpoint says; None where one may."""
        if prices := sorted(self.unknown & {"price_input", "price_output"}):
            return f"its {' and '.join(prices)} is not known, and nothing is routed by a guess; give it (0 where it is free)"
        return None if self.join is None else self.join.unrouted_reason


FIGURES = ("price_input", "price_output", "context")
"""Of a model, what may be published or not known."""

ASSUMED_CONTEXT = 8192
"""Tokens, where a model's context length is not known."""


def pool_model(card: ModelCard, provider: Provider, *, given: Collection[str], now: datetime) -> PoolModel:
    """A model of which some figures may be missing: those that are published replace them.

    Parameters
    ----------
    given
        Which of `FIGURES` the card states.
    now
        Prices have dates.
    """
    missing = set(FIGURES) - set(given)
    found = published_figures(provider.model or card.name, provider.base_url, now) if missing else None
    known: dict[str, Any] = {name: value for name in missing if (value := getattr(found, name, None)) is not None}
    unknown = frozenset(missing - known.keys())
    assumed: dict[str, Any] = {name: ASSUMED_CONTEXT if name == "context" else 0.0 for name in unknown}
    return PoolModel(replace(card, **known, **assumed), provider, unknown=unknown)


class PoolFile:
    """Reads a pool file; use `load`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: YamlFile = read_yaml(path)
        self._problems: list[tuple[int, str, str]] = []

    @classmethod
    def load(cls, path: Path) -> list[PoolModel]:
        """The models of a pool file, in its order.

        Raises
        ------
        BadDataFile
            Where the file has mistakes; lists all of them by line.
        """
        file = cls(path)
        models = file._read()
        file._check()
        return models

    def _read(self) -> list[PoolModel]:
        for location, line in self._file.repeated:
            self._problems.append((line, _dotted(location), "appears twice; keep one"))
        top = self._validate(PoolEntries, self._file.data, ())
        if top is None:
            return []
        benchmarks = {
            name: self._validate(BenchmarkEntry, entry, ("benchmarks", name)) for name, entry in top.benchmarks.items()
        }
        models: dict[str, PoolModel] = {}
        for i, entry in enumerate(top.models):
            at: Location = ("models", i)
            model = self._validate(ModelEntry, entry, at)
            name = entry.get("name") if isinstance(entry, dict) else None
            if isinstance(name, str) and name in models:
                self._note((*at, "name"), f"another model is called {name!r} already")
            if model is not None:
                models[model.name] = _pool_model(model, self._priors(model, benchmarks, at))
        return list(models.values())

    def _priors(
        self, model: ModelEntry, benchmarks: dict[str, BenchmarkEntry | None], at: Location
    ) -> dict[str, float]:
        """axis -> the mean of the model's rescaled figures on it."""
        figures: dict[str, list[float]] = {}
        for i, prior in enumerate(model.priors):
            here = (*at, "priors", i)
            if prior.benchmark not in benchmarks:
                self._note(
                    (*here, "benchmark"), f"no benchmark {prior.benchmark!r}{_meant(prior.benchmark, benchmarks)}"
                )
            elif (benchmark := benchmarks[prior.benchmark]) is not None:
                if prior.axis != benchmark.axis:
                    self._note(
                        (*here, "axis"), f"is {prior.axis!r}, but {prior.benchmark!r} measures {benchmark.axis!r}"
                    )
                figures.setdefault(benchmark.axis, []).append(benchmark.rescale(prior.score))
        low, high = PRIOR_RANGE
        return {axis: min(max(fmean(values), low), high) for axis, values in figures.items()}

    def _validate(self, kind: type[M], data: Any, at: Location) -> M | None:
        try:
            return kind.model_validate(data)
        except ValidationError as error:
            for problem in error.errors():
                location = (*at, *problem["loc"])
                if problem["type"] == "extra_forbidden":
                    key = str(location[-1])
                    self._note(location, f"unknown key{_meant(key, _keys(location[:-1]))}")
                elif problem["type"] == "missing":
                    self._note(location, "is missing")
                elif problem["type"] == "value_error":
                    self._note(location, str(problem["ctx"]["error"]))
                else:
                    what = problem["msg"].removeprefix("Input ")
                    self._note(location, f"{what}, not {problem['input']!r:.60}")
            return None

    def _note(self, at: Location, what: str) -> None:
        self._problems.append((self._file.line(at), _dotted(at), what))

    def _check(self) -> None:
        if not self._problems:
            return
        count = len(self._problems)
        lines = "".join(f"\n  line {line}: {where} {what}" for line, where, what in sorted(self._problems))
        raise BadDataFile(
            f"{self._path}: {count} {'problem' if count == 1 else 'problems'}; the pool was left as it was{lines}",
            param=str(self._path),
        )


def _pool_model(entry: ModelEntry, priors: dict[str, float]) -> PoolModel:
    given: dict[str, Any] = {} if entry.context is None else {"context": entry.context}
    if entry.price is not None:
        given |= {"price_input": entry.price.input, "price_output": entry.price.output}
    card = ModelCard(
        name=entry.name,
        family=entry.family,
        capabilities=frozenset(entry.capabilities),
        priors=priors,
        output_tokens=entry.output_tokens,
        replaces=entry.replaces,
        **given,
    )
    provider = Provider(**entry.provider.model_dump())
    return pool_model(card, provider, given=given, now=datetime.now(UTC))


def _keys(at: Location) -> Sequence[str]:
    """The keys that are allowed at a location."""
    match [part for part in at if isinstance(part, str)]:
        case []:
            return list(PoolEntries.model_fields)
        case ["benchmarks", _]:
            return list(BenchmarkEntry.model_fields)
        case ["models"]:
            return list(ModelEntry.model_fields)
        case ["models", key]:
            return list(_NESTED[key].model_fields)
    return []


_NESTED: dict[str, type[BaseModel]] = {"provider": ProviderEntry, "price": PriceEntry, "priors": PriorEntry}


def _meant(word: str, known: Iterable[str]) -> str:
    return did_you_mean(word, known) or f"; the keys here are {', '.join(known)}"


def _dotted(at: Location) -> str:
    """``models[3].price`` for ("models", 3, "price")."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in at)
    return text.removeprefix(".") or "the file"
