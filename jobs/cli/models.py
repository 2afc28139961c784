"""`thalweg models`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobs.cli.console import Json, context, say, show, table

if TYPE_CHECKING:
    from store.pool.file import PoolModel

app = typer.Typer(help="The pool of models. What is changed here overrides the pool file and survives restarts.",
                  no_args_is_help=True)  # fmt: skip

Name = Annotated[str, typer.Argument(help="As clients write it, vendor/model.")]
PriceInput = Annotated[float | None, typer.Option(min=0, help="USD per million input tokens.")]
PriceOutput = Annotated[float | None, typer.Option(min=0, help="USD per million output tokens.")]
Context = Annotated[int | None, typer.Option(min=1, help="Longest request plus answer, in tokens.")]
Family = Annotated[str | None, typer.Option(help="Models of one family resemble one another.")]
Capability = Annotated[list[str] | None, typer.Option(help="tools, vision or json; may be repeated.")]
Prior = Annotated[list[str] | None, typer.Option(help="axis=0..1, a published figure; may be repeated.")]
BaseUrl = Annotated[str | None, typer.Option(help="OpenAI-compatible endpoint, up to /v1.")]
KeyEnv = Annotated[str | None, typer.Option(help="Name of the variable that holds the endpoint's key.")]
Upstream = Annotated[str | None, typer.Option(help="The endpoint's own id of the model.")]


@app.command("list")
def list_models(
    removed: Annotated[bool, typer.Option(help="Removed models too.")] = False, as_json: Json = False
) -> None:
    """The models of the pool, and what each lacks to be called."""
    from jobs.context import missing

    with context() as world:
        import os

        found = [(m, missing(m, os.environ)) for m in world.pool.list(include_removed=removed)]
    show([_data(m, lack) for m, lack in found], as_json, lambda: table(
        "",
        {"model": "left", "family": "left", "$ in": "right", "$ out": "right", "context": "right", "can": "left",
         "prior": "right", "state": "left"},
        [
            (
                m.card.name, m.card.family, f"{m.card.price_input:g}", f"{m.card.price_output:g}", f"{m.card.context:,}",
                " ".join(sorted(m.card.capabilities)),
                f"{sum(m.card.priors.values()) / len(m.card.priors):.2f}" if m.card.priors else "-",
                "removed" if m.removed else lack or "ready",
            )
            for m, lack in found
        ],
        "the pool is empty",
    ))  # fmt: skip


@app.command("add")
def add(
    name: Name,
    price_input: PriceInput = 0.0,
    price_output: PriceOutput = 0.0,
    context_tokens: Annotated[int, typer.Option("--context", min=1, help="Longest request plus answer.")] = 8192,
    family: Family = "",
    capability: Capability = None,
    prior: Prior = None,
    base_url: BaseUrl = None,
    api_key_env: KeyEnv = None,
    upstream: Upstream = None,
    as_json: Json = False,
) -> None:
    """Add a model behind an OpenAI-compatible endpoint, or bring a removed one back."""
    from agent.errors import InvalidInput
    from agent.types import ModelCard
    from store.pool.file import PoolModel, Provider

    if not base_url:
        raise InvalidInput(
            "--base-url is missing; give the endpoint, such as https://api.openai.com/v1", param="base_url"
        )
    card = ModelCard(
        name=name,
        family=family or "",
        price_input=price_input or 0.0,
        price_output=price_output or 0.0,
        context=context_tokens,
        capabilities=frozenset(capability or ()),
        priors=_priors(prior),
    )
    with context() as world:
        world.pool.add(PoolModel(card, Provider("openai", base_url, api_key_env, upstream)))
        added = world.pool.get(name)
    _tell(f"added {name}", added, as_json)


@app.command("set")
def change(
    name: Name,
    price_input: PriceInput = None,
    price_output: PriceOutput = None,
    context_tokens: Annotated[int | None, typer.Option("--context", min=1, help="Longest request plus answer.")] = None,
    family: Family = None,
    capability: Capability = None,
    prior: Prior = None,
    base_url: BaseUrl = None,
    api_key_env: KeyEnv = None,
    upstream: Upstream = None,
    as_json: Json = False,
) -> None:
    """Change what is given of a model; the rest stays."""
    from dataclasses import replace

    from agent.errors import InvalidInput

    patch: dict[str, Any] = {
        "price_input": price_input, "price_output": price_output, "context": context_tokens, "family": family,
        "capabilities": capability, "priors": _priors(prior) if prior else None,
    }  # fmt: skip
    patch = {key: value for key, value in patch.items() if value is not None}
    endpoint: dict[str, Any] = {"base_url": base_url, "api_key_env": api_key_env, "model": upstream}
    endpoint = {key: value for key, value in endpoint.items() if value is not None}
    if not patch and not endpoint:
        raise InvalidInput("nothing to change; see `thalweg models set --help`", param="options")
    with context() as world:
        if endpoint:
            patch["provider"] = replace(world.pool.get(name).provider, **endpoint)
        changed = world.pool.update(name, **patch)
    _tell(f"changed {name}", changed, as_json)


@app.command("remove")
def remove(name: Name, as_json: Json = False) -> None:
    """Take a model out of the pool; it gets no further request."""
    with context() as world:
        removed = world.pool.get(name)
        world.pool.remove(name)
    _tell(f"removed {name}", removed, as_json)


def _priors(given: list[str] | None) -> dict[str, float]:
    from agent.errors import InvalidInput

    priors = {}
    for one in given or ():
        axis, _, figure = one.partition("=")
        try:
            priors[axis] = float(figure)
        except ValueError as error:
            raise InvalidInput(f"--prior {one}: write axis=0.8", param="prior") from error
    return priors


def _data(model: PoolModel, lack: str | None) -> dict[str, Any]:
    card = model.card
    return {
        "name": card.name, "family": card.family, "price_input": card.price_input, "price_output": card.price_output,
        "context": card.context, "capabilities": sorted(card.capabilities), "priors": dict(card.priors),
        "provider": model.provider, "removed": model.removed, "unavailable": lack,
    }  # fmt: skip


def _tell(what: str, model: PoolModel, as_json: bool) -> None:
    import os

    from jobs.context import missing

    if as_json:
        show(_data(model, missing(model, os.environ)), True, lambda: "")
    else:
        say(what)
