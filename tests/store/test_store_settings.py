"""The settings of the three rooms: variables, defaults, ranges, and how a mistake is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.errors import InvalidInput
from jobs.settings import JobSettings
from serve.settings import ServeSettings
from store.settings import PREFIX, VARIABLES, Settings, StoreSettings

ROOMS: list[type[Settings]] = [StoreSettings, ServeSettings, JobSettings]


def test_defaults_lie_in_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = StoreSettings.from_env({"THALWEG_HOME": "", "THALWEG_STORE_PROMPTS": ""})
    assert settings == StoreSettings(
        home=tmp_path / "var", database_url=f"sqlite:///{tmp_path}/var/thalweg.db", store_prompts="full"
    )
    assert StoreSettings.from_env({"THALWEG_HOME": "/data"}).database_url == "sqlite:////data/thalweg.db"


def test_the_given_variables_are_read_and_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THALWEG_SEED", "3")
    monkeypatch.setenv("THALWEG_ENCODER", "another")
    env = {"THALWEG_DATABASE_URL": "postgresql://h/n", "THALWEG_STORE_PROMPTS": "embedding", "THALWEG_HOME": "/data"}
    settings = JobSettings.from_env(env | {"THALWEG_REFRESH_SCHEDULE": " off ", "THALWEG_POOL": "pool.yaml"})
    assert (settings.home, settings.database_url) == (Path("/data"), "postgresql://h/n")
    assert (settings.store_prompts, settings.refresh_schedule) == ("embedding", "off")
    assert settings.pool == Path.cwd() / "pool.yaml", "paths are absolute: a worker runs in another folder"
    assert (settings.seed, settings.encoder) == (0, JobSettings.model_fields["encoder"].default)


@pytest.mark.parametrize("room", ROOMS)
def test_settings_cannot_be_changed(room: type[Settings]) -> None:
    with pytest.raises(ValueError, match="frozen"):
        room.from_env({}).home = Path("/")  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("room", "name", "value"),
    [
        (StoreSettings, "THALWEG_STORE_PROMPTS", "none"),
        (ServeSettings, "THALWEG_STORE_PROMPTS", "none"),
        (ServeSettings, "THALWEG_API_KEY", "short"),
        (ServeSettings, "THALWEG_API_KEY", "with some spaces"),
        (ServeSettings, "THALWEG_API_KEY", "schlüssel"),
        (ServeSettings, "THALWEG_API_KEY", "line-end\n"),
        (ServeSettings, "THALWEG_MAX_BODY", "lots"),
        (ServeSettings, "THALWEG_MAX_BODY", "0"),
        (ServeSettings, "THALWEG_EXPLORE_SHARE", "1.5"),
        (ServeSettings, "THALWEG_EXPLORE_SHARE", "much"),
        (ServeSettings, "THALWEG_EXPLORE_BURST", "-1"),
        (ServeSettings, "THALWEG_UPSTREAM_TIMEOUT_S", "-1"),
        (ServeSettings, "THALWEG_UPSTREAM_TIMEOUT_S", "inf"),
        (ServeSettings, "THALWEG_CONNECT_TIMEOUT_S", "nan"),
        (JobSettings, "THALWEG_ENCODER_THREADS", "0"),
        (JobSettings, "THALWEG_ENCODER_THREADS", "257"),
        (JobSettings, "THALWEG_REFRESH_SCHEDULE", "daily"),
        (JobSettings, "THALWEG_REFRESH_SCHEDULE", "interval: 6"),
        (JobSettings, "THALWEG_REFRESH_SCHEDULE", "interval: 0h"),
        (JobSettings, "THALWEG_REFRESH_SCHEDULE", "0 3 * *"),
        (JobSettings, "THALWEG_REFRESH_SCHEDULE", "0 25 * * *"),
        (JobSettings, "THALWEG_REFRESH_SCHEDULE", "0 3 * * 0"),
        (JobSettings, "THALWEG_REFRESH_SCHEDULE", "0 0 31 2 *"),
        (JobSettings, "THALWEG_REFRESH_GROWTH", "0"),
        (JobSettings, "THALWEG_REFRESH_MIN_FEEDBACK", "some"),
        (JobSettings, "THALWEG_REFRESH_COOLDOWN_S", "nan"),
        (JobSettings, "THALWEG_SEED", "-1"),
    ],
)
def test_a_wrong_value_names_its_variable_and_what_to_give(room: type[Settings], name: str, value: str) -> None:
    with pytest.raises(InvalidInput, match=f"^{name}.*: give .") as caught:
        room.from_env({name: value})
    assert caught.value.param == name
    assert (value in caught.value.message) is (name != "THALWEG_API_KEY"), "a key is in no message"


def test_no_secret_is_shown() -> None:
    settings = ServeSettings.from_env(
        {"THALWEG_API_KEY": "secret-key", "THALWEG_DATABASE_URL": "postgresql://me:hidden@h/n"}
    )
    assert settings.api_key == "secret-key"
    assert "secret-key" not in repr(settings) and "hidden" not in repr(settings)


@pytest.mark.parametrize("room", ROOMS)
@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("THALWEG_HOM", "THALWEG_HOME"),
        ("THALWEG_REFRESH_SCHEDUL", "THALWEG_REFRESH_SCHEDULE"),
        ("THALWEG_DATABASE", "THALWEG_DATABASE_URL"),
        ("THALWEG_APIKEY", "THALWEG_API_KEY"),
    ],
)
def test_a_misspelt_variable_is_an_error(room: type[Settings], name: str, meant: str) -> None:
    with pytest.raises(InvalidInput, match=f"{name} .* did you mean '{meant}'") as caught:
        room.from_env({name: "x"})
    assert caught.value.param == name


@pytest.mark.parametrize("room", ROOMS)
def test_variables_of_other_rooms_and_of_other_programs_pass(room: type[Settings]) -> None:
    usable = {"THALWEG_STORE_PROMPTS": "full", "THALWEG_API_KEY": "secret-key"}
    usable |= {f"THALWEG_{job}_SCHEDULE": "off" for job in ("REFRESH", "RETENTION", "JOIN_REVIEW", "JUDGE")}
    usable |= {f"THALWEG_{kind}_MAX_SCORED": "100" for kind in ("TRIAL", "HOLD_BACK")}
    usable |= {"THALWEG_JOIN_MAX_TOKENS": "100", "THALWEG_JUDGE_URL": "http://127.0.0.1:9/v1"}
    known = {name: usable.get(name, "1") for name in VARIABLES}
    foreign = [
        "THALWEG_OPENAI_KEY",
        "THALWEG_PORT",
        "THALWEG_SERVICE_HOST",
        "THALWEG_PORT_8000_TCP",
        "PATH",
        "THALWEGS",
    ]
    assert room.from_env(known | dict.fromkeys(foreign, "x")) == room.from_env(known)


def test_every_rooms_fields_are_among_the_known_variables() -> None:
    fields = {PREFIX + name.upper() for room in ROOMS for name in room.model_fields}
    assert fields == set(VARIABLES) - {"THALWEG_DEBUG", "THALWEG_BENCH"}


@pytest.mark.parametrize("room", ROOMS)
def test_a_variable_of_an_earlier_version_names_its_successor(room: type[Settings]) -> None:
    with pytest.raises(InvalidInput, match="^THALWEG_REFRESH_INTERVAL_S was replaced by THALWEG_REFRESH_SCHEDULE: "):
        room.from_env({"THALWEG_REFRESH_INTERVAL_S": "21600"})
