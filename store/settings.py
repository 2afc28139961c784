"""Settings: what each room reads from the environment, once, in a process's composition root.

A room's settings are a class on `Settings`; its fields are the variables, ``home`` being ``THALWEG_HOME``. Nothing is read
implicitly: only what is given to `Settings.from_env`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, ValidationError
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from agent.errors import InvalidInput, did_you_mean

PREFIX = "THALWEG_"
VARIABLES = [
    PREFIX + name.upper()
    for name in (
        "home database_url store_prompts api_key pool pool_watch encoder encoder_threads data max_body upstream_timeout_s "
        "connect_timeout_s explore_share explore_burst explore_regret explore_income refresh_schedule "
        "refresh_growth refresh_min_feedback "
        "refresh_cooldown_s retention_schedule retention_decisions retention_decision_days retention_feedback "
        "retention_feedback_days retention_rejected retention_retired retention_history_days trial_share hold_back_share "
        "trial_max_scored hold_back_max_scored trial_max_decisions trial_max_days trial_max_regret hold_back_max_regret "
        "join_review_schedule join_probes join_max_tokens judge judge_url judge_api_key_env judge_price_input "
        "judge_price_output judge_daily_usd judge_schedule judge_keep_share "
        "judge_keep_hours shadow_share join_budget_usd join_max_calls join_timeout_s join_calls_per_minute "
        "seed debug bench"
    ).split()
]
"""The variables of all rooms."""

REPLACED = {
    PREFIX + "REFRESH_INTERVAL_S": f"{PREFIX}REFRESH_SCHEDULE: write 'interval: 6h' for 21600, and 'off' for 0",
}
"""Variables of earlier versions, and what took their place."""

PromptsSetting = Literal["full", "embedding"]
AbsolutePath = Annotated[Path, AfterValidator(lambda path: path.expanduser().absolute())]


class Settings(BaseSettings):
    """Base of each room's settings: frozen, with the prefix ``THALWEG_``, an empty variable being an unset one.

    The ``description`` of a field says what values it takes; of a field with ``repr=False`` no message shows the value.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_ignore_empty=True, frozen=True, extra="forbid")

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Self:
        """Read the settings from ``env`` and nothing else.

        Raises
        ------
        InvalidInput
            Where a value cannot be used, or an unknown variable is close to a known one (others may be an upstream's key,
            or come from Kubernetes); ``param`` names the variable.
        """
        ours = {name: value for name, value in env.items() if name.startswith(PREFIX)}
        for name in ours:
            if name in REPLACED:
                raise InvalidInput(f"{name} was replaced by {REPLACED[name]}", param=name)
            hint = "" if name in VARIABLES else did_you_mean(name, VARIABLES, cutoff=0.87)
            if hint:
                raise InvalidInput(f"{name} is no setting of Thalweg{hint}", param=name)
        try:
            return cls(**_Variables(cls, ours)())
        except ValidationError as error:
            first = error.errors()[0]
            field = cls.model_fields[str(first["loc"][0])]
            name = PREFIX + str(first["loc"][0]).upper()
            value = f"={first['input']!r}" if field.repr else ""
            raise InvalidInput(f"{name}{value}: give {field.description or first['msg']}", param=name) from None

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], init_settings: PydanticBaseSettingsSource, *_: Any, **__: Any
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments only: no variable and no file is read unasked."""
        return (init_settings,)


class _Variables(EnvSettingsSource):
    """pydantic-settings' reading of variables, from a mapping instead of the process's environment."""

    def __init__(self, settings: type[Settings], env: Mapping[str, str]) -> None:
        self._env = env
        super().__init__(settings)

    def _load_env_vars(self) -> Mapping[str, str | None]:
        return {name.lower(): value for name, value in self._env.items() if value}


class StoreSettings(Settings):
    """Settings of the store, and so of every room.

    Parameters
    ----------
    home
        Folder for everything written.
    database_url
        ``sqlite:///path`` or ``postgresql://user:password@host/name``; a SQLite file in the home where it is not set.
    store_prompts
        ``embedding`` keeps no text of prompts, only their embeddings and content hashes.
    judge_daily_usd
        Most that judging answers to requests may cost a day (UTC); 0: no answer is kept, and none is judged.
    judge_keep_share
        Share of the answers that are kept until they are judged, beside those of explored requests.
    shadow_share
        Share of the requests that a second model answers too, later, for the two answers to be compared.
    """

    home: AbsolutePath = Field(default_factory=lambda: Path("var").absolute())
    database_url: str = Field(default_factory=lambda data: f"sqlite:///{data['home']}/thalweg.db", repr=False)
    store_prompts: PromptsSetting = Field(default="full", description="'full' or 'embedding'")

    judge_daily_usd: float = Field(default=0.0, ge=0, allow_inf_nan=False, description="a number of at least 0")
    judge_keep_share: float = Field(default=0.1, ge=0, le=1, description="a number from 0 to 1")
    shadow_share: float = Field(default=0.0, ge=0, le=1, description="a number from 0 to 1")

    @property
    def keeps_answers(self) -> bool:
        """Whether answers are kept to be judged: only with a budget, and where prompts' texts are stored too."""
        return self.judge_daily_usd > 0 and self.store_prompts == "full"

    @property
    def cache(self) -> Path:
        """Folder for what can be made again: the encoder's graph, embeddings, the local model's unpacked weights."""
        return self.home / "cache"
