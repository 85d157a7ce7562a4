from __future__ import annotations

import json

import pytest

from swarmrun.errors import Conflict, InvalidResource, NotFound, PermissionDenied, RemoteUnavailable
from swarmrun.kube import network
from swarmrun.kube.api import KubeApi, refusal
from swarmrun.kube.options import NetworkOptions


def status(code: int, message: str, reason: str = "Forbidden") -> str:
    return json.dumps({"kind": "Status", "code": code, "message": message, "reason": reason})


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (
            'pods "x" is forbidden: exceeded quota: q, requested: requests.memory=512Mi, used: 0, limited: 300Mi',
            "QuotaExceeded",
        ),
        ('pods "x" is forbidden: failed quota: q: must specify limits.cpu', "QuotaExceeded"),
        (
            'pods "x" is forbidden: violates PodSecurity "restricted:latest": runAsNonRoot != true',
            "PodSecurityDenied",
        ),
        (
            'pods "x" is forbidden: maximum memory usage per Container is 128Mi, but limit is 256Mi',
            "LimitRangeViolated",
        ),
        (
            'pods "x" is forbidden: pod rejected: RuntimeClass "gvisor" not found',
            "RuntimeClassNotFound",
        ),
        (
            'pods "x" is forbidden: error looking up service account ns/nobody: serviceaccount "nobody" not found',
            "ServiceAccountNotFound",
        ),
        (
            'pods "x" is forbidden: no PriorityClass with name none-such was found',
            "PriorityClassNotFound",
        ),
        (
            'pods "x" is forbidden: unable to create new content in namespace n because it is being terminated',
            "NamespaceTerminating",
        ),
        (
            "pods \"x\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: no",
            "PolicyDenied",
        ),
        (
            'pods is forbidden: User "system:serviceaccount:a:b" cannot create resource "pods" in API group ""',
            "OperatorNotAllowed",
        ),
        ("something new", "Forbidden"),
    ],
)
def test_refusals_are_told_apart_by_what_the_api_server_says(message, reason):
    exc = refusal(403, status(403, message), "POST /x")
    assert isinstance(exc, PermissionDenied)
    assert (exc.reason, exc.message) == (reason, message)


@pytest.mark.parametrize("code", [400, 401, 403, 413, 422])
@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("ValidatingAdmissionPolicy 'p' with binding 'b' denied request: no", "PolicyDenied"),
        ('admission webhook "w.example.com" denied the request: no', "WebhookDenied"),
    ],
)
def test_admission_that_denies_is_told_by_its_words_whatever_status_it_chose(code, said, reason):
    """422 is a policy's own where it names no reason."""
    for own_rights in (True, False):
        exc = KubeApi(own_rights=own_rights)._refusal(code, status(code, said, "Invalid"), "POST /x")
        assert (type(exc), exc.reason) == (PermissionDenied, reason)


def test_every_kind_of_answer_has_its_error():
    assert isinstance(refusal(404, status(404, "no", "NotFound"), "x"), NotFound)
    taken = refusal(409, status(409, "there", "AlreadyExists"), "x")
    assert (type(taken), taken.reason) == (Conflict, "AlreadyExists")
    # A quota's bookkeeping under many creations: the next try works.
    assert refusal(409, status(409, "object has been modified", "Conflict"), "x").retryable
    unknown = 'pods "x" is forbidden: status unknown for quota: q, resources: requests.memory'
    assert refusal(403, status(403, unknown), "x").retryable
    busy = refusal(429, "too many", "x", "3")
    assert isinstance(busy, RemoteUnavailable)
    assert busy.retry_after == 3
    assert refusal(503, "<html>", "x").reason == "ApiServerUnavailable"
    assert isinstance(refusal(422, status(422, "bad", "Invalid"), "x"), InvalidResource)
    assert refusal(401, "", "x").reason == "Unauthorized"


def test_an_api_server_whose_admission_is_not_ready_is_an_outage():
    said = refusal(403, status(403, 'pods "x" is forbidden: not yet ready to handle request'), "POST /x")
    assert (said.retryable, said.reason) == (True, "ApiServerUnavailable")


@pytest.mark.parametrize(
    ("code", "message", "reason"),
    [
        (403, 'User "a" cannot get resource "pods" in API group ""', "OperatorNotAllowed"),
        (401, "Unauthorized", "Unauthorized"),
    ],
)
def test_a_right_of_its_own_that_is_denied_is_waited_for_and_anybody_s_else_is_an_answer(
    code, message, reason
):
    """An API server that was just started has not read the roles yet."""
    answer = code, status(code, message), "GET /x"
    own, others = KubeApi(own_rights=True)._refusal(*answer), KubeApi()._refusal(*answer)
    assert (own.retryable, own.reason) == (True, reason)
    assert (others.retryable, others.reason) == (False, reason)
    denied = KubeApi(own_rights=True)._refusal(403, status(403, "exceeded quota: q"), "POST /x")
    assert (denied.retryable, denied.reason) == (False, "QuotaExceeded")


def test_an_api_server_that_is_not_there_is_an_outage(tmp_path):
    import asyncio

    config = tmp_path / "config"
    config.write_text(
        "{apiVersion: v1, kind: Config, current-context: c, contexts: [{name: c, context: {cluster: c, user: u}}],"
        "clusters: [{name: c, cluster: {server: 'http://127.0.0.1:9'}}], users: [{name: u, user: {}}]}"
    )

    async def go() -> None:
        api = KubeApi(kubeconfig=str(config))
        with pytest.raises(RemoteUnavailable) as down:
            await api.get("/api/v1/pods")
        assert down.value.reason == "ApiServerUnavailable"
        await api.close()
        with pytest.raises(InvalidResource, match="KUBECONFIG"):
            await KubeApi(kubeconfig=str(tmp_path / "none")).get("/api")

    asyncio.run(go())


def test_open_egress_leaves_out_private_ranges_and_bad_ranges_are_refused():
    rule = network.to_anywhere(NetworkOptions("ns", {"a": "b"}), 443)
    four, six = (to["ipBlock"] for to in rule["to"])
    assert (four["cidr"], six["cidr"]) == ("0.0.0.0/0", "::/0")
    assert {"10.0.0.0/8", "169.254.0.0/16", "192.168.0.0/16"} <= set(four["except"])
    assert all(":" in cidr for cidr in six["except"])
    assert network.to_block("10.1.2.3/8") == {"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}
    with pytest.raises(InvalidResource, match="address range"):
        network.to_block("10.0.0.0/99")
