"""The pool file, and everything that may be wrong with one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.errors import BadDataFile
from store.pool.file import PoolFile, Provider, read_yaml
from tests.store.build import POOL

GOOD = """\
version: 1
benchmarks:
  MATH: {axis: math, floor: 0.4, ceiling: 0.9}
  AIME: {axis: math, floor: 0.0, ceiling: 0.5}
models:
  - name: local/tiny
    provider: {kind: embedded}
    price: {input: 0, output: 0}
    context: 2048
  - name: vendor/big
    family: big
    provider: {kind: openai, base_url: "https://api.vendor.com/v1", api_key_env: VENDOR_KEY, model: big-2}
    price: {input: 1.25, output: 10}
    context: 400000
    capabilities: [tools, json]
    priors:
      - {axis: math, benchmark: MATH, score: 0.65, source: "vendor, 2025"}
      - {axis: math, benchmark: AIME, score: 0.5, source: "vendor, 2025"}
"""


def problems(tmp_path: Path, content: str) -> str:
    """The error message of a file."""
    path = tmp_path / "pool.yaml"
    path.write_text(content)
    with pytest.raises(BadDataFile) as caught:
        PoolFile.load(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_the_packaged_pool_has_a_local_model_and_ten_others() -> None:
    models = PoolFile.load(POOL)
    assert sum(m.provider.kind == "embedded" for m in models) == 1
    others = [m for m in models if m.provider.kind == "openai"]
    assert len(others) >= 10
    assert all(m.card.priors and m.card.price_output > 0 and m.provider.api_key_env for m in others)
    assert all(0.02 <= p <= 0.98 for m in models for p in m.card.priors.values())


def test_a_good_file_becomes_models(tmp_path: Path) -> None:
    path = tmp_path / "pool.yaml"
    path.write_text(GOOD)
    tiny, big = PoolFile.load(path)
    assert (tiny.card.name, tiny.card.priors, tiny.provider) == ("local/tiny", {}, Provider("embedded"))
    assert big.provider == Provider("openai", "https://api.vendor.com/v1", "VENDOR_KEY", "big-2")
    assert (big.card.price_input, big.card.price_output, big.card.context) == (1.25, 10.0, 400000)
    assert big.card.capabilities == {"tools", "json"}
    assert big.card.priors == {"math": pytest.approx((0.5 + 1.0) / 2)}


def test_a_lone_perfect_figure_is_no_certainty(tmp_path: Path) -> None:
    path = tmp_path / "pool.yaml"
    path.write_text(GOOD.replace("score: 0.65", "score: 0.95"))
    assert PoolFile.load(path)[1].card.priors == {"math": 0.98}


@pytest.mark.parametrize(
    ("wrong", "right", "message"),
    [
        ("price: {input: 1.25", "prise: {input: 1.25", "line 13: models[1].prise unknown key; did you mean 'price'?"),
        ("output: 10", "outptu: 10", "line 13: models[1].price.outptu unknown key; did you mean 'output'?"),
        ("floor: 0.4", "flor: 0.4", "line 3: benchmarks.MATH.flor unknown key; did you mean 'floor'?"),
        ("family: big", "colour: big", "line 11: models[1].colour unknown key; the keys here are name, family"),
        ("models:", "modles:", "line 5: modles unknown key; did you mean 'models'?"),
        ("context: 400000", "context: 400k", "line 14: models[1].context should be a valid integer, not '400k'"),
        ("context: 2048", "context: true", "line 9: models[0].context should be a valid integer, not True"),
        ("context: 2048", "output_tokens: 0", "line 9: models[0].output_tokens should be greater than 0, not 0"),
        ("context: 2048", "context: 0", "line 9: models[0].context should be greater than 0, not 0"),
        ("input: 1.25", "input: -1", "line 13: models[1].price.input should be greater than or equal to 0, not -1"),
        ("input: 1.25", "input: .nan", "line 13: models[1].price.input should be a finite number, not nan"),
        ("[tools, json]", "[tools, jason]", "line 15: models[1].capabilities[1] should be 'tools', 'vision' or 'json'"),
        ("kind: embedded", "kind: embeded", "line 7: models[0].provider.kind should be 'openai' or 'embedded'"),
        ("kind: embedded", "kind: openai", "line 7: models[0].provider of kind 'openai' needs a base_url"),
        ("https://", "htps://", "line 12: models[1].provider.base_url"),
        ("benchmark: AIME", "benchmark: AMIE", "line 18: models[1].priors[1].benchmark no benchmark 'AMIE'; did you"),
        ("axis: math, benchmark: AIME", "axis: code, benchmark: AIME", "line 18: models[1].priors[1].axis is 'code'"),
        ("floor: 0.4", "floor: 0.9", "line 3: benchmarks.MATH its floor (0.9) is not below its ceiling (0.9)"),
        ("name: vendor/big", "name: local/tiny", "line 10: models[1].name another model is called 'local/tiny'"),
        ("    family: big", "    family: big\n    family: huge", "line 12: models[1].family appears twice"),
        ("version: 1", "version: 2", "line 1: version should be 1, not 2"),
    ],
)
def test_a_mistake_is_named_with_line_and_key(tmp_path: Path, wrong: str, right: str, message: str) -> None:
    assert GOOD.count(wrong) == 1
    assert message in problems(tmp_path, GOOD.replace(wrong, right))


def test_every_mistake_is_listed_at_once_in_order(tmp_path: Path) -> None:
    content = GOOD.replace("family: big", "famly: big").replace("floor: 0.4", "floor: low").replace("2048", "[]")
    found = problems(tmp_path, content)
    assert "3 problems" in found
    assert re.findall(r"line (\d+):", found) == ["3", "9", "11"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("models: [", "line 1"),
        ("a: b\n\tc: d", "line 2"),
        ("", "the file"),
        ("- 1", "the file"),
        ("x: \x01", "not YAML"),
        ("models: 3\nversion: 1", "line 1: models"),
        ("models: [3]\nversion: 1", "line 1: models[0]"),
        ("models: [{name: [1]}]\nversion: 1", "models[0].name"),
        ("models: []\nversion: 1\nbenchmarks: {a: 3, 4: {}}", "line 3"),
    ],
)
def test_what_is_hardly_a_pool_file_is_no_traceback(tmp_path: Path, content: str, message: str) -> None:
    assert message in problems(tmp_path, content)


def test_a_missing_or_binary_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadDataFile, match="No such file"):
        PoolFile.load(tmp_path / "none.yaml")
    (tmp_path / "x.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadDataFile, match="UTF-8"):
        PoolFile.load(tmp_path / "x.yaml")


_keys = [(i, line) for i, line in enumerate(GOOD.splitlines()) if re.search(r"\w+:", line)]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(where=st.sampled_from(_keys), data=st.data())
def test_any_misspelt_key_is_found_on_its_line(tmp_path: Path, where: tuple[int, str], data: st.DataObject) -> None:
    number, line = where
    keys = [m for m in re.finditer(r"(\w+):(?= |$)", line) if m.group(1) not in ("MATH", "AIME")]
    if not keys:
        return
    key = data.draw(st.sampled_from(keys))
    broken = line[: key.start(1)] + key.group(1) + "x" + line[key.end(1) :]
    lines = GOOD.splitlines()
    lines[number] = broken
    found = problems(tmp_path, "\n".join(lines))
    assert re.search(rf"line {number + 1}: \S*{key.group(1)}x unknown key; did you mean '{key.group(1)}'\?", found)


_yaml = st.recursive(
    st.integers() | st.text("ab c", max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", min_size=1), inner, max_size=3),
)


@given(_yaml)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_key_and_item_has_a_line(tmp_path: Path, data: object) -> None:
    path = tmp_path / "any.yaml"
    path.write_text(yaml.safe_dump(data))
    file = read_yaml(path)
    assert file.data == data

    def walk(value: object, at: tuple[str | int, ...]) -> None:
        assert at == () or at in file.lines
        if isinstance(value, dict):
            for key, inner in value.items():
                walk(inner, (*at, key))
        elif isinstance(value, list):
            for index, inner in enumerate(value):
                walk(inner, (*at, index))

    walk(data, ())
