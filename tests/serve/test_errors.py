"""Every error in OpenAI's shape, with the right status."""

from __future__ import annotations

import json

import pytest

from agent import errors as tree
from agent.errors import ThalwegError, UpstreamError, UpstreamTimeout
from serve import errors


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (tree.InvalidInput("m", param="p"), 422, "invalid_request_error"),
        (errors.MalformedJson("m"), 400, "invalid_request_error"),
        (errors.Unauthorised("m"), 401, "invalid_request_error"),
        (errors.NotFound("m"), 404, "invalid_request_error"),
        (tree.UnknownModel("m"), 404, "invalid_request_error"),
        (tree.UnknownDecision("m"), 404, "invalid_request_error"),
        (tree.SnapshotCorrupt("m"), 409, "invalid_request_error"),
        (errors.BodyTooLarge("m"), 413, "invalid_request_error"),
        (tree.BadDataFile("m"), 422, "invalid_request_error"),
        (tree.NoCandidate("m"), 422, "invalid_request_error"),
        (errors.ModelUnavailable("m"), 503, "server_error"),
        (tree.StoreUnavailable("m"), 503, "server_error"),
        (errors.NotReady("m"), 503, "server_error"),
        (UpstreamError("m"), 502, "upstream_error"),
        (UpstreamError("m", status=429), 429, "upstream_error"),
        (UpstreamError("m", status=302), 502, "upstream_error"),
        (UpstreamTimeout("m"), 504, "upstream_error"),
        (ThalwegError("m"), 500, "server_error"),
    ],
)
def test_shape_and_status(error: ThalwegError, status: int, kind: str) -> None:
    response = errors.error_response(error, {"x-thalweg-model": "a"})
    assert response.status_code == status
    assert response.headers["x-thalweg-model"] == "a"
    found = json.loads(bytes(response.body))["error"]
    assert found == {"message": "m", "type": kind, "param": error.param, "code": error.code}


def test_an_upstreams_own_error_is_passed_on_as_it_is() -> None:
    body = b'{"error": {"message": "slow down", "code": 1.50}}'
    assert errors.error_response(UpstreamError("m", status=429, body=body)).body == body


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"error": "text"}'])
def test_an_upstreams_error_of_another_shape_is_reported_in_ours(body: bytes) -> None:
    response = errors.error_response(UpstreamError("out of memory", status=500, body=body))
    assert json.loads(bytes(response.body))["error"]["message"] == "out of memory"


def test_clients_do_not_try_again_what_needs_a_key() -> None:
    assert errors.error_response(errors.ModelUnavailable("m")).headers["x-should-retry"] == "false"


def test_paths_read_as_the_caller_writes_them() -> None:
    assert errors.path("messages", 0, "content", 2, "text") == "messages[0].content[2].text"
    assert errors.path("", "score") == "score"
    assert errors.path("[3]", "score") == "[3].score"
