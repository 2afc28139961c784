"""The decision joins the answer; every other byte stays what it was."""

from __future__ import annotations

import json

import pytest

from agent.errors import UpstreamError
from serve.routing.calls import EventAnnotator, Usage, annotate, splice
from tests.upstream import USAGE, chunk

ADDED = {"decision_id": "d-1", "why": 'a "quoted" reason }'}
MARK = b',"thalweg":' + json.dumps(ADDED, separators=(",", ":")).encode()
STREAM = (
    b": hello\n\n"
    + chunk("m", {"role": "assistant", "content": "}é\u2028".encode().decode()})
    + chunk("m", {"content": "b"})
    + b"data: "
    + json.dumps({"choices": [], "usage": USAGE}).encode()
    + b"\n\ndata: [DONE]\n\n"
)


@pytest.mark.parametrize("size", [1, 2, 7, 64, 10_000])
def test_a_stream_is_passed_on_byte_for_byte_however_it_is_cut(size: int) -> None:
    annotator = EventAnnotator(ADDED)
    out = b"".join(annotator.feed(STREAM[i : i + size]) for i in range(0, len(STREAM), size)) + annotator.flush()
    assert out.replace(MARK, b"", 1) == STREAM
    first = next(line for line in out.split(b"\n") if line.startswith(b"data:"))
    assert json.loads(first[5:])["thalweg"] == ADDED
    assert out.count(b'"thalweg"') == 1
    assert annotator.usage == Usage(11, 7)


def test_after_the_first_event_nothing_is_held_back() -> None:
    annotator = EventAnnotator(ADDED)
    annotator.feed(chunk("m", {}))
    assert annotator.feed(b"data: {half an ev") == b"data: {half an ev"


@pytest.mark.parametrize("stream", [b"", b"data: [DONE]\n\n", b"no events", b": only\n\n: comments\n\n"])
def test_a_stream_without_events_stays_as_it_is(stream: bytes) -> None:
    annotator = EventAnnotator(ADDED)
    assert annotator.feed(stream) + annotator.flush() == stream


def test_windows_line_ends_stay() -> None:
    out = EventAnnotator(1).feed(b'data: {"a":1}\r\n\r\n')
    assert out == b'data: {"a":1,"thalweg":1}\r\n\r\n'


@pytest.mark.parametrize(
    ("document", "expected"),
    [(b"{}", b'{"k":1}'), (b" { } \n", b' { "k":1} \n'), (b'{"a": 1.50 }', b'{"a": 1.50 ,"k":1}')],
)
def test_splice(document: bytes, expected: bytes) -> None:
    assert splice(document, "k", 1) == expected


def test_a_plain_answer_keeps_its_bytes_and_tells_its_usage() -> None:
    answer = b'{"odd": 1.50, "usage": {"prompt_tokens": 3, "completion_tokens": 4}}\n'
    out, usage = annotate(answer, ADDED)
    assert out.replace(MARK, b"") == answer and usage == Usage(3, 4)


@pytest.mark.parametrize("answer", [b"", b"<html>", b"[]", b'"text"', b'{"cut": '])
def test_an_answer_that_is_no_object_is_the_upstreams_error(answer: bytes) -> None:
    with pytest.raises(UpstreamError, match="not a JSON object"):
        annotate(answer, ADDED)
