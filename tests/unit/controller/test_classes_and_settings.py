"""Which class a run uses, and how the operator's environment is read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from swarmrun.controller.classes import choose
from swarmrun.controller.hands import master_key
from swarmrun.controller.settings import OperatorSettings
from swarmrun.errors import InvalidResource, NotFound, StorageUnavailable

Body = Callable[..., dict[str, Any]]


def test_a_run_that_names_none_gets_the_default_class(class_body: Body) -> None:
    classes = {"a": class_body("a"), "b": class_body("b", default=True)}
    assert choose(None, classes).metadata.name == "b"
    assert choose("a", classes).metadata.name == "a"


def test_two_default_classes_are_named(class_body: Body) -> None:
    classes = {n: class_body(n, default=True) for n in "ab"}
    with pytest.raises(InvalidResource, match="a, b"):
        choose(None, classes)


def test_no_class_is_something_to_wait_for(class_body: Body) -> None:
    for name in (None, "missing"):
        with pytest.raises(NotFound) as caught:
            choose(name, {"a": class_body("a")})
        assert caught.value.reason == "SwarmClassNotFound"


@pytest.mark.parametrize(
    ("proxy", "egress", "words"),
    [
        ({"url": "http://proxy.example.com:3128", "cidr": "10.0.0.0/8"}, {}, "cidr of one address"),
        ({"url": "http://proxy.example.com:3128", "cidr": "10.0.0.0/40"}, {}, "is no address range"),
        ({"url": "http://proxy.example.com:3128", "cidr": "10.0.0.5/32"}, {}, ""),
        ({"url": "http://10.0.0.5:3128", "cidr": "10.0.0.0/8"}, {}, ""),
        ({"url": "http://[fd00::5]:3128", "cidr": "fd00::/8"}, {}, ""),
        ({"url": "http://proxy.example.com:3128", "cidr": "10.0.0.0/8"}, {"dns": True}, ""),
    ],
)
def test_a_proxy_that_no_sandbox_could_find_is_refused_with_the_class(
    class_body: Body, proxy: dict[str, str], egress: dict[str, Any], words: str
) -> None:
    body = class_body("a", pods={"egressProxy": proxy}, sandbox={"egress": egress})
    if not words:
        assert choose("a", {"a": body}).spec.pods.egress_proxy
        return
    with pytest.raises(InvalidResource, match=words) as refused:
        choose("a", {"a": body})
    assert refused.value.reason == "InvalidClass"


def test_a_recording_s_file_is_no_endpoint_in_a_cluster(class_body: Body) -> None:
    models = {"standard": {"endpoint": "cassette:tape.yaml", "model": "m"}}
    with pytest.raises(InvalidResource, match=r"spec\.models\.standard\.endpoint"):
        choose("a", {"a": class_body("a", models=models)})


@pytest.mark.parametrize(
    ("env", "words"),
    [
        ({"SWARMRUN_ENGINE": "redis"}, "SWARMRUN_ENGINE"),
        ({"SWARMRUN_ENGINE": "dts"}, "SWARMRUN_DTS_ENDPOINT"),
        ({"SWARMRUN_PROBE_PORT": "http"}, "SWARMRUN_PROBE_PORT"),
        ({"SWARMRUN_SANDBOXES": "vm"}, "pod, process"),
    ],
)
def test_a_setting_that_cannot_be_is_named(env: dict[str, str], words: str) -> None:
    with pytest.raises(InvalidResource, match=words):
        OperatorSettings.read(env)


def test_settings_of_the_chart_are_read() -> None:
    settings = OperatorSettings.read(
        {"SWARMRUN_STATE": "/s", "SWARMRUN_NAMESPACES": "a, b", "SWARMRUN_BRAIN_LABELS": "x=1,y=2"}
    )
    assert (settings.artifacts, settings.namespaces) == ("file:///s/artifacts", ("a", "b"))
    assert settings.brain_labels == {"x": "1", "y": "2"}


def test_the_master_key_is_made_once_and_for_its_owner_only(tmp_path: Path) -> None:
    settings = OperatorSettings.read({"SWARMRUN_STATE": str(tmp_path)})
    key = master_key(settings)
    assert len(key) == 32
    assert master_key(settings) == key
    assert (tmp_path / "master.key").stat().st_mode & 0o777 == 0o600
    assert [p.name for p in tmp_path.iterdir()] == ["master.key"]


def test_a_missing_master_key_file_is_said(tmp_path: Path) -> None:
    settings = OperatorSettings.read({"SWARMRUN_MASTER_KEY_FILE": str(tmp_path / "none")})
    with pytest.raises(StorageUnavailable, match="none"):
        master_key(settings)
