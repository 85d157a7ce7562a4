"""How the operator's process is set up, read once from its environment (the chart writes it).

| variable | meaning | default |
| --- | --- | --- |
| `SWARMRUN_STATE` | directory of engine, caches and, by default, artifacts | `/var/lib/swarmrun` |
| `SWARMRUN_ENGINE` | `embedded` or `dts` | `embedded` |
| `SWARMRUN_DTS_ENDPOINT`, `SWARMRUN_DTS_TASKHUB` | the Durable Task Scheduler and its task hub | –, `default` |
| `SWARMRUN_ARTIFACTS` | URL of the artifact store (`file://`, `az://`, `s3://`) | `file://$SWARMRUN_STATE/artifacts` |
| `SWARMRUN_SANDBOXES` | `pod`, or `process` for an operator that runs on one's own machine | `pod` |
| `SWARMRUN_SANDBOX_IMAGE`, `…_PULL_POLICY`, `…_PULL_SECRETS` | of sandbox Pods, by default | `swarmrun-sandbox` |
| `SWARMRUN_OPERATOR_IMAGE` | of git Pods | `swarmrun-operator` |
| `SWARMRUN_BRAIN_LABELS` | labels (`key=value,…`) of the operator's own Pods | `BRAIN_LABELS` |
| `SWARMRUN_UNSAFE_NO_SANDBOX` | `true`: process sandboxes without bubblewrap | `false` |
| `SWARMRUN_MASTER_KEY_FILE` | at least 16 bytes, the same for all workers | made in `$SWARMRUN_STATE/master.key` |
| `SWARMRUN_NAMESPACES` | namespaces that are watched, comma separated; empty: all | empty |
| `SWARMRUN_LEASE` | name of the Lease that the controller holds while it works; empty: none | empty |
| `SWARMRUN_NAMESPACE`, `SWARMRUN_IDENTITY` | the operator's own namespace; its Pod's name | `default`, host name |
| `SWARMRUN_PROBE_PORT` | port of `/healthz` | `8080` |
| `SWARMRUN_MAX_SANDBOXES` | of all runs together, at once; at least 2; empty: no cap | empty |
| `SWARMRUN_READ_PORT` | port of the read interface (roles `all` and `controller`); `0`: none | `8082` |
| `SWARMRUN_STALE_SECONDS` | without a good sweep for so long (one begins every 60 s) the probe fails | `600` |
| `SWARMRUN_GRACE_SECONDS` | what a worker that is told to end gives to what is at work (engine `dts`) | `30` |
| `SWARMRUN_PROBES` | address of `/healthz` of the controller, for `--check` | `http://127.0.0.1:$SWARMRUN_PROBE_PORT` |
| `SWARMRUN_METRICS_PORT` | port of `/metrics`; `0`: none | `8081` |
| `SWARMRUN_WORKER_THREADS` | of a worker, for orchestrations and activities together | `64` |

Logs: `observability.logs`. Traces: OpenTelemetry's own variables, off without `OTEL_EXPORTER_OTLP_ENDPOINT`.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from swarmrun.errors import InvalidResource

BRAIN_LABELS: Mapping[str, str] = {"app.kubernetes.io/name": "swarmrun-operator"}


@dataclass(frozen=True)
class OperatorSettings:
    state: Path
    engine: str = "embedded"
    dts_endpoint: str = ""
    dts_taskhub: str = "default"
    artifacts: str = ""
    sandboxes: str = "pod"
    sandbox_image: str = "swarmrun-sandbox"
    sandbox_pull_policy: str = "IfNotPresent"
    sandbox_pull_secrets: tuple[str, ...] = ()
    operator_image: str = "swarmrun-operator"
    brain_labels: Mapping[str, str] = field(default_factory=lambda: dict(BRAIN_LABELS))
    unsafe_no_sandbox: bool = False
    master_key_file: Path | None = None
    namespaces: tuple[str, ...] = ()
    lease: str = ""
    namespace: str = "default"
    identity: str = ""
    probe_port: int = 8080
    read_port: int = 8082
    probes: str = ""
    grace: int = 30
    stale: int = 600
    metrics_port: int = 8081
    threads: int = 64
    max_sandboxes: int | None = None

    @classmethod
    def read(cls, env: Mapping[str, str]) -> OperatorSettings:
        """Raises InvalidResource that names the variable."""
        state = Path(env.get("SWARMRUN_STATE") or "/var/lib/swarmrun").absolute()
        key = env.get("SWARMRUN_MASTER_KEY_FILE", "")
        engine = _one_of(env, "SWARMRUN_ENGINE", ("embedded", "dts"))
        endpoint = env.get("SWARMRUN_DTS_ENDPOINT", "")
        if engine == "dts" and not endpoint:
            raise InvalidResource("SWARMRUN_ENGINE is dts, but SWARMRUN_DTS_ENDPOINT is not set")
        return cls(
            state=state,
            engine=engine,
            dts_endpoint=endpoint,
            dts_taskhub=env.get("SWARMRUN_DTS_TASKHUB") or "default",
            artifacts=env.get("SWARMRUN_ARTIFACTS") or (state / "artifacts").as_uri(),
            sandboxes=_one_of(env, "SWARMRUN_SANDBOXES", ("pod", "process")),
            sandbox_image=env.get("SWARMRUN_SANDBOX_IMAGE") or cls.sandbox_image,
            sandbox_pull_policy=env.get("SWARMRUN_SANDBOX_PULL_POLICY") or cls.sandbox_pull_policy,
            sandbox_pull_secrets=_names(env, "SWARMRUN_SANDBOX_PULL_SECRETS"),
            operator_image=env.get("SWARMRUN_OPERATOR_IMAGE") or cls.operator_image,
            brain_labels=dict(
                label.split("=", 1) for label in _names(env, "SWARMRUN_BRAIN_LABELS") if "=" in label
            )
            or BRAIN_LABELS,
            unsafe_no_sandbox=env.get("SWARMRUN_UNSAFE_NO_SANDBOX") == "true",
            master_key_file=Path(key) if key else None,
            namespaces=_names(env, "SWARMRUN_NAMESPACES"),
            lease=env.get("SWARMRUN_LEASE", ""),
            namespace=env.get("SWARMRUN_NAMESPACE") or "default",
            identity=env.get("SWARMRUN_IDENTITY") or socket.gethostname(),
            read_port=_number(env, "SWARMRUN_READ_PORT", 8082),
            metrics_port=_number(env, "SWARMRUN_METRICS_PORT", 8081),
            probe_port=(port := _number(env, "SWARMRUN_PROBE_PORT", 8080)),
            probes=env.get("SWARMRUN_PROBES") or f"http://127.0.0.1:{port}",
            grace=_number(env, "SWARMRUN_GRACE_SECONDS", 30),
            stale=_number(env, "SWARMRUN_STALE_SECONDS", 600),
            threads=_number(env, "SWARMRUN_WORKER_THREADS", 64),
            max_sandboxes=_cap(env, "SWARMRUN_MAX_SANDBOXES"),
        )


def _names(env: Mapping[str, str], name: str) -> tuple[str, ...]:
    return tuple(n.strip() for n in env.get(name, "").split(",") if n.strip())


def _one_of(env: Mapping[str, str], name: str, allowed: tuple[str, ...]) -> str:
    """The first is the default."""
    value = env.get(name) or allowed[0]
    if value not in allowed:
        raise InvalidResource(f"{name} is {value!r}", mend=f"one of {', '.join(allowed)}")
    return value


def _cap(env: Mapping[str, str], name: str) -> int | None:
    """0 or empty: none."""
    cap = _number(env, name, 0)
    if cap == 1:
        raise InvalidResource(
            f"{name} is 1", mend="a run needs two sandboxes at the same time: 2 or more, or 0 for no cap"
        )
    return cap or None


def _number(env: Mapping[str, str], name: str, default: int) -> int:
    text = env.get(name) or str(default)
    if not text.isdigit():
        raise InvalidResource(f"{name} is {text!r}, which is no number")
    return int(text)
