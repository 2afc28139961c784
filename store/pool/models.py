"""The pool in the database: the models of the pool file, overridden by the changes that API and CLI have made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any

from pydantic import Field, ValidationError
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from agent.errors import InvalidInput, UnknownModel, did_you_mean
from agent.types import ModelCard
from store.columns import Clock, clean, utc_now
from store.database import Database
from store.joins import Beginning, Join, begin, latest
from store.pool.file import (
    ASSUMED_CONTEXT,
    FIGURES,
    Capability,
    Context,
    OutputTokens,
    PoolModel,
    Price,
    Provider,
    ProviderEntry,
    Strict,
)
from store.tables import ModelTable

Beginnings = list[Beginning]


@dataclass(frozen=True, slots=True)
class PoolSync:
    """What taking over a pool file did to the pool: names of the models that joined it, left it, or have other values."""

    joined: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()

    def __str__(self) -> str:
        parts = [f"{what}: {', '.join(names)}" for what, names in asdict(self).items() if names]
        return "; ".join(parts) or "nothing changed"


class ModelPool:
    """Lists and edits the pool. Every change raises `revision`, which replicas poll."""

    def __init__(self, database: Database, clock: Clock = utc_now) -> None:
        self._database = database
        self._clock = clock

    def sync(self, models: Sequence[PoolModel]) -> PoolSync:
        """Take over a pool file's models. Models that the file does not have any more go, except those added by API or CLI.

        Models that come into a pool that held any join it, see `store.joins`; so does one whose check had failed, and of which
        the file says something else now.
        """
        wanted = {clean(model.card.name): _definition(model) for model in models}
        joined, left, changed = list[str](), list[str](), list[str]()
        with self._edit() as (session, beginnings):
            rows, joins = {row.name: row for row in session.scalars(select(ModelTable))}, latest(session)
            for name in sorted(rows.keys() | wanted.keys()):
                row, base = rows.get(name), wanted.get(name)
                was_in = row is not None and _in_pool(row)
                if row is None:
                    row = ModelTable(name=name, base=base, patch=None, added=False, removed=False)
                    session.add(row)
                elif row.base != base:
                    row.base = base
                    if was_in and _in_pool(row):
                        changed.append(name)
                        if name in joins and joins[name].state == "failed":
                            beginnings.append(Beginning(name, "added", "the pool file has changed it"))
                if _in_pool(row) and not was_in:
                    joined.append(name)
                    if rows:
                        beginnings.append(Beginning(name, "added", "the pool file has it"))
                elif was_in and not _in_pool(row):
                    left.append(name)
        return PoolSync(tuple(joined), tuple(left), tuple(changed))

    def list(self, include_removed: bool = False) -> list[PoolModel]:
        """The models by name; with ``include_removed`` also the removed ones, which are marked."""
        with self._database.session() as session:
            rows = session.scalars(select(ModelTable).order_by(ModelTable.name)).all()
            joins = latest(session)
        return [
            _pool_model(row, joins.get(row.name))
            for row in rows
            if _in_pool(row) or (include_removed and row.removed and _defined(row))
        ]

    def get(self, name: str) -> PoolModel:
        """One model. Raises `UnknownModel` where the pool does not hold it."""
        with self._database.session() as session:
            row = _find(session, name)
            return _pool_model(row, latest(session, [row.name]).get(row.name))

    def add(self, model: PoolModel, *, check: bool = True) -> None:
        """Add a model, or a removed one again: it joins, see `store.joins`.

        Parameters
        ----------
        check
            False: it is routed to at once, unchecked.

        Raises
        ------
        InvalidInput
            Where the pool holds it already, or a value cannot be used.
        """
        with self._edit() as (session, beginnings):
            beginnings.append(_add(session, model, check, "it was added"))

    def replace(self, old: str, new: PoolModel | str, *, check: bool = True) -> PoolModel:
        """Let a model take the place of another: it inherits that one's estimates (`agent.online.inheritance`), and that one
        leaves the pool as soon as the new one is routed to.

        Parameters
        ----------
        new
            The model, which joins the pool; or the name of one that is in it.
        check
            False: a model that joins is routed to at once, unchecked.

        Raises
        ------
        UnknownModel
            Where the pool does not hold ``old``, or a model of that name.
        InvalidInput
            Where it holds ``new`` already, both are the same, or a value cannot be used.
        """
        with self._edit() as (session, beginnings):
            before = _find(session, old)
            why = f"it replaces {before.name}"
            name = clean(new if isinstance(new, str) else new.card.name)
            if name == before.name:
                raise InvalidInput(f"{name} cannot replace itself; give the new model another name", param="name")
            if isinstance(new, str):
                row = _find(session, name)
                row.patch = {**(row.patch or {}), "replaces": before.name}
                join = latest(session, [name]).get(name)
                waits = join is not None and join.unrouted_reason is not None
                if join is not None and join.state == "failed":
                    beginnings.append(Beginning(name, "added", why))
            else:
                heir = PoolModel(replace(new.card, replaces=before.name), new.provider, unknown=new.unknown)
                beginnings.append(_add(session, heir, check, why))
                waits = check
            before.removed = before.removed or not waits
        return self.get(name)

    def update(self, name: str, **patch: Any) -> PoolModel:
        """Change some of a model's fields: those of `ModelCard` but ``name`` and ``available``, and ``provider``.

        One whose check had failed joins again.

        Raises
        ------
        UnknownModel
            Where the pool does not hold it.
        InvalidInput
            Where a field is unknown or its value cannot be used; ``param`` names it.
        """
        if isinstance(patch.get("provider"), Provider):
            patch["provider"] = asdict(patch["provider"])
        with self._edit() as (session, beginnings):
            row = _find(session, name)
            join = latest(session, [row.name]).get(row.name)
            merged = _validated({**_merged(row), **patch})
            row.patch = {**(row.patch or {}), **{key: merged[key] for key in patch}}
            if join is not None and join.state == "failed":
                beginnings.append(Beginning(row.name, "added", f"it was changed ({', '.join(sorted(patch))})"))
        return self.get(name)

    def remove(self, name: str) -> None:
        """Remove a model from the pool; only `add` brings it back, not the pool file."""
        with self._edit() as (session, _):
            _find(session, name).removed = True

    def revision(self) -> int:
        """A number that grows with every change of the pool."""
        with self._database.session() as session:
            return session.scalar(select(func.max(ModelTable.revision))) or 0

    @contextmanager
    def _edit(self) -> Iterator[tuple[Session, Beginnings]]:
        """A write transaction that gives the changed rows the next revision, if there are any; and a list for the joins that
        begin."""
        beginnings: Beginnings = []
        with self._database.session(lock="models") as session:
            yield session, beginnings
            changed = [row for row in (*session.new, *session.dirty) if session.is_modified(row)]
            revision = 1
            with session.no_autoflush:
                revision += session.scalar(select(func.max(ModelTable.revision))) or 0
            for row in changed:
                row.revision, row.updated_at = revision, self._clock()
            for beginning in beginnings:
                begin(session, beginning, self._clock())
            session.commit()


class _Definition(Strict):
    """A model as the table keeps it: a flat dict, which a patch overrides key by key."""

    family: str = ""
    price_input: Price | None = None
    price_output: Price | None = None
    context: Context | None = None
    capabilities: list[Capability] = []
    priors: dict[str, Annotated[float, Field(ge=0, le=1)]] = {}
    output_tokens: OutputTokens | None = None
    replaces: str | None = None
    provider: ProviderEntry


def _validated(definition: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return _Definition.model_validate(dict(definition)).model_dump()
    except ValidationError as error:
        first = error.errors()[0]
        param = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            hint = did_you_mean(str(first["loc"][-1]), _Definition.model_fields)
            raise InvalidInput(f"a model has no field {param!r}{hint}", param=param) from error
        raise InvalidInput(f"{param}: {first['msg']}, not {first['input']!r:.60}", param=param) from error


def _definition(model: PoolModel) -> dict[str, Any]:
    card = model.card
    figures = {"price_input": card.price_input, "price_output": card.price_output, "context": card.context}
    return {
        "family": card.family,
        **{name: None if name in model.unknown else value for name, value in figures.items()},
        "capabilities": sorted(card.capabilities),
        "priors": dict(card.priors),
        "output_tokens": card.output_tokens,
        "provider": asdict(model.provider),
        **({} if card.replaces is None else {"replaces": card.replaces}),
    }


def _add(session: Session, model: PoolModel, check: bool, why: str) -> Beginning:
    """Put a model into the pool; the join that begins."""
    name, patch = clean(model.card.name), _validated(_definition(model))
    row = session.get(ModelTable, name)
    if row is None:
        session.add(ModelTable(name=name, base=None, patch=patch, added=True, removed=False))
    elif _in_pool(row):
        raise InvalidInput(f"the pool holds {name!r} already; update it instead", param="name")
    else:
        row.patch, row.added, row.removed = patch, True, False
    return Beginning(name, "added", why) if check else Beginning(name, "trial", f"{why} without a check")


def _defined(row: ModelTable) -> bool:
    """Whether the file or an `add` defines the model; a patch alone, of a model that the file dropped, does not."""
    return row.base is not None or row.added


def _in_pool(row: ModelTable) -> bool:
    return _defined(row) and not row.removed


def _merged(row: ModelTable) -> dict[str, Any]:
    return {**(row.base or {}), **(row.patch or {})}


def _pool_model(row: ModelTable, join: Join | None) -> PoolModel:
    fields = _merged(row)
    provider = Provider(**fields.pop("provider"))
    fields["capabilities"] = frozenset(fields["capabilities"])
    unknown = frozenset(name for name in FIGURES if fields[name] is None)
    fields |= {name: ASSUMED_CONTEXT if name == "context" else 0.0 for name in unknown}
    return PoolModel(ModelCard(name=row.name, **fields), provider, row.removed, unknown, join)


def _find(session: Session, name: str) -> ModelTable:
    row = session.get(ModelTable, clean(name))
    if row is not None and _in_pool(row):
        return row
    known = [r.name for r in session.scalars(select(ModelTable)) if _in_pool(r)]
    hint = did_you_mean(name, known) or f"; it holds {', '.join(sorted(known)[:20]) or 'no model'}"
    raise UnknownModel(f"the pool holds no model {name!r}{hint}", param="model")
