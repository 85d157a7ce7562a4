from __future__ import annotations

import email.utils
import json
import socket
import time

import pytest

from swarmrun.cassette.render import event
from swarmrun.errors import (
    BadModelOutput,
    ModelRefused,
    ModelUnavailable,
    PermissionDenied,
    RateLimited,
    SwarmRunError,
    TransientError,
)
from swarmrun.models.refusals import retry_after, translate


@pytest.mark.parametrize(
    ("status", "error", "kind", "reason"),
    [
        (429, "slow down", RateLimited, "RateLimited"),
        (500, "oops", ModelUnavailable, "ModelUnavailable"),
        (502, b"<html>bad gateway</html>", ModelUnavailable, "ModelUnavailable"),
        (503, "busy", ModelUnavailable, "ModelUnavailable"),
        (529, "overloaded", ModelUnavailable, "ModelUnavailable"),
        (408, "late", ModelUnavailable, "ModelUnavailable"),
        (401, "bad key", PermissionDenied, "PermissionDenied"),
        (403, "not yours", PermissionDenied, "PermissionDenied"),
        (402, "pay first", PermissionDenied, "QuotaExhausted"),
        (429, {"message": "quota", "code": "insufficient_quota"}, PermissionDenied, "QuotaExhausted"),
        (400, "This model's maximum context length is 8192 tokens", ModelRefused, "ContextTooLong"),
        (413, b"too large", ModelRefused, "ContextTooLong"),
        (400, "m does not support tools", ModelRefused, "ToolsUnsupported"),
        (
            400,
            "Unsupported value: 'temperature' does not support 0.2",
            ModelRefused,
            "TemperatureUnsupported",
        ),
        (
            400,
            "The `reasoning_content` in the thinking mode must be passed back",
            ModelRefused,
            "ReasoningReplay",
        ),
        (404, "no such model", ModelRefused, "ModelNotFound"),
        (
            422,
            b'{"detail": [{"type": "extra_forbidden", "loc": ["body", "x"]}]}',
            ModelRefused,
            "ModelRefused",
        ),
        (400, {"message": "hate", "code": "content_filter"}, BadModelOutput, "ContentFilter"),
    ],
)
def test_a_status_becomes_the_error_that_says_whether_to_retry(
    server, ask, profile, status, error, kind, reason
):
    server.play(server.status(status, error))
    with pytest.raises(SwarmRunError) as caught:
        ask(server, profile)
    assert type(caught.value) is kind
    assert caught.value.reason == reason
    assert len(server.seen) == 1, "the client must not retry by itself"


def test_the_servers_own_words_and_the_endpoint_reach_the_reader(server, ask, profile):
    server.play(server.status(401, "Incorrect key sk-proj-abcdefgh12345678ijkl given"))
    with pytest.raises(PermissionDenied, match="Incorrect key") as caught:
        ask(server, profile)
    assert server.url in caught.value.message
    assert "sk-proj" not in str(caught.value)
    assert caught.value.mend


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry_After": "7"}, 7),
        ({"Retry_After": "1.5"}, 1.5),
        ({"retry_after_ms": "250", "Retry_After": "9"}, 0.25),
        ({"Retry_After": "soon"}, None),
        ({}, None),
    ],
)
def test_the_named_wait_is_taken_from_either_header(server, ask, profile, headers, seconds):
    server.play(server.status(429, "slow down", **headers))
    with pytest.raises(RateLimited) as caught:
        ask(server, profile)
    assert caught.value.retry_after == seconds


def test_a_wait_until_a_date_is_counted_from_now_and_never_negative():
    soon = email.utils.formatdate(time.time() + 60, usegmt=True)
    assert 50 < (retry_after({"retry-after": soon}) or 0) <= 60
    assert retry_after({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}) == 0
    assert retry_after({"retry-after": "1e99"}) == 24 * 3600


def test_an_overloaded_server_that_names_a_wait_is_a_rate_limit(server, ask, profile):
    server.play(server.status(503, "busy", Retry_After="3"))
    with pytest.raises(RateLimited) as caught:
        ask(server, profile)
    assert caught.value.retry_after == 3


def test_a_refused_connection_is_an_outage(ask, profile):
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        with pytest.raises(ModelUnavailable, match="cannot be reached"):
            ask(f"http://127.0.0.1:{held.getsockname()[1]}/v1", profile)


def test_a_server_that_hangs_up_without_a_word_is_an_outage(server, ask, profile):
    server.play(server.hang_up())
    with pytest.raises(ModelUnavailable):
        ask(server, profile)


@pytest.mark.parametrize("first", [b"", b": hello\n\n"])
def test_silence_ends_the_call(server, ask, profile, first):
    server.play(server.silence(first))
    with pytest.raises(ModelUnavailable) as caught:
        ask(server, profile, silence_s=0.2)
    assert caught.value.reason == "ModelTimeout"


def test_a_lively_call_ends_after_its_total_time(server, ask, profile):
    server.play(server.drip())
    with pytest.raises(ModelUnavailable, match="did not end") as caught:
        ask(server, profile, total_s=0.3)
    assert caught.value.reason == "ModelTimeout"


@pytest.mark.parametrize(
    "data",
    [b"", b"\x00\xff\xfe\x80garbage\n\n", b"data: {not json\n\n", b"data: [1, 2]\n\n", b'data: {"choices": 5}\n\n',
     b"data: null\n\n", b'data: "text"\n\n', b'data: {"type": "response.completed"}\n\n'],
)  # fmt: skip
def test_garbage_is_an_outage_and_never_an_answer(server, ask, profile, data):
    server.play(server.raw(data))
    with pytest.raises(ModelUnavailable):
        ask(server, profile)


def test_a_web_page_where_a_stream_was_due_says_that_the_address_is_wrong(server, ask, profile):
    server.play(server.raw(b"<html>Sign in</html>", "text/html"))
    with pytest.raises(ModelRefused, match="text/html") as caught:
        ask(server, profile)
    assert "/v1" in caught.value.mend


def test_an_answer_in_one_piece_says_that_streaming_is_off(server, ask, profile):
    server.play(lambda h: h.whole(200, b'{"choices": []}'))
    with pytest.raises(ModelRefused) as caught:
        ask(server, profile)
    assert caught.value.reason == "StreamingUnsupported"


@pytest.mark.parametrize("share", [0.2, 0.5, 1.0])
def test_a_stream_that_ends_without_a_finish_runs_none_of_its_calls(server, ask, profile, share):
    arguments = json.dumps({"path": "a.py", "content": "x" * 500})
    server.play(server.cut(share, text="I write.", calls=[("c1", "write_file", arguments)]))
    with pytest.raises(ModelUnavailable) as caught:
        ask(server, profile)
    assert caught.value.reason == "StreamCutOff"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"message": "slow", "code": "rate_limit_exceeded"}, RateLimited),
        ({"message": "slow", "code": 429}, RateLimited),
        ({"message": "upstream died", "code": 502}, ModelUnavailable),
        ({"message": "oops", "code": "server_error"}, ModelUnavailable),
        ({"message": "too long", "code": "context_length_exceeded"}, ModelRefused),
        ({"message": "oops"}, ModelUnavailable),
    ],
)
def test_an_error_inside_a_stream_is_told_apart(server, ask, profile, error, kind):
    data = (
        event({"error": error})
        if profile.api == "chat"
        else event({"type": "error", "sequence_number": 0, "param": None, "code": None, **error}, "error")
    )
    server.play(server.raw(data))
    with pytest.raises(SwarmRunError) as caught:
        ask(server, profile)
    assert type(caught.value) is kind


def test_a_failed_response_tells_its_reason(server, ask):
    from swarmrun.models.profiles import profile_for

    response = {"id": "r", "object": "response", "status": "failed", "output": [], "created_at": 0, "model": "m",
                "error": {"code": "rate_limit_exceeded", "message": "tokens per minute"}}  # fmt: skip
    server.play(server.raw(event({"type": "response.failed", "response": response}, "response.failed")))
    with pytest.raises(RateLimited, match="tokens per minute"):
        ask(server, profile_for("some-model", {"api": "responses"}))


@pytest.mark.parametrize("reason", ["error", "insufficient_system_resource", "network_error"])
def test_a_server_that_says_it_gave_up_is_an_outage(server, ask, reason):
    from swarmrun.models.profiles import profile_for

    server.play(server.chunks({"content": "half a th"}, finish=reason))
    with pytest.raises(TransientError):
        ask(server, profile_for("local"))


def test_a_name_that_is_no_utf8_is_shown_to_the_model_and_never_hinders_the_request(server, ask, profile):
    server.play(server.cut(1.0, text="fine"))
    odd = ask.text("user", "caf\udce9.txt \ud800")
    with pytest.raises(ModelUnavailable):  # the scripted answer is cut off: what was sent is looked at
        ask(server, profile, messages=[odd], instructions="\udcff")
    sent = json.dumps(server.seen[0], default=str)
    assert json.dumps("caf\\xe9.txt \ufffd")[1:-1] in sent


@pytest.mark.parametrize(
    "fault",
    [
        UnicodeEncodeError("utf-8", "\udce9", 0, 1, "surrogates not allowed"),
        TypeError("Object of type set is not JSON serializable"),
    ],
)
def test_a_request_that_cannot_be_written_is_no_outage(fault):
    told = translate(fault, endpoint="http://127.0.0.1:1/v1", model="m")
    assert type(told) is ModelRefused
    assert not told.retryable
    assert "cannot be made" in told.message
