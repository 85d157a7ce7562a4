"""The Pod of one sandbox, the policy around all of a run's, and the server for images without it. Pure."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from swarmrun.kube import names, network
from swarmrun.kube.manifest import metadata, pod, policy, readiness
from swarmrun.kube.options import NetworkOptions, PodOptions, RunPlace
from swarmrun.ports import SandboxSpec
from swarmrun.sandbox.kubernetes import surroundings

Json = dict[str, Any]

PORT = 8700
"""Of the server. Not 8000 or 8080: what agents build likes to listen there."""
CONTAINER = "sandbox"
COMPONENT = "sandbox"
VOLUME = "/sandbox"
SERVER = "/opt/swarmrun/sandboxd"
CA_JOINED = f"{VOLUME}/server/ca-certificates.crt"
"""The system's roots and the class's, joined by the server at its start."""
FOR_SETUP = "setup"
"""Value of the label `names.EGRESS`."""
SERVER_SOURCE = Path(__file__).parents[1] / "sandboxd"

_FIRST_UID = 100_000
_UIDS = 1_000_000_000


def uid_of(sandbox_id: str) -> int:
    """A uid of its own: limits of processes count per uid across Pods of a node (setrlimit(2))."""
    return _FIRST_UID + int(hashlib.sha256(sandbox_id.encode()).hexdigest()[:12], 16) % _UIDS


def carries_server(spec: SandboxSpec, options: PodOptions) -> bool:
    """Whether the image has no server of this version, so that it must be mounted."""
    return bool(spec.image) and spec.image != options.image


def sandbox_pod(
    place: RunPlace, spec: SandboxSpec, options: PodOptions, net: NetworkOptions, *, token_sha256: str
) -> Json:
    uid = uid_of(spec.id)
    meta = metadata(
        place, names.pod_name(place, spec.id), COMPONENT, options=options, **{names.SANDBOX: spec.id}
    )
    task = spec.id.removeprefix(place.run).strip("-")
    meta["labels"][names.TASK] = names.label_value(task)
    meta["labels"].pop(names.EGRESS, None)
    if born_open(spec, net):
        meta["labels"][names.EGRESS] = FOR_SETUP
    volumes: list[Json] = [_work(spec, options, meta["labels"]), _empty_dir("tmp", spec.disk_mb)]
    # The volume's root belongs to root whatever is asked for; the server works in directories that it makes.
    mounts: list[Json] = [{"name": "work", "mountPath": VOLUME}, {"name": "tmp", "mountPath": "/tmp"}]
    if carries_server(spec, options):
        volumes.append({"name": "server", "configMap": {"name": server_name(place), "defaultMode": 0o444}})
        mounts.append({"name": "server", "mountPath": SERVER, "readOnly": True})
    if options.ca_config_map:
        # Its key by name: one that is missing is then told by an Event.
        items = [{"key": "ca.crt", "path": "ca.crt"}]
        volumes.append({"name": "ca", "configMap": {"name": options.ca_config_map, "items": items}})
        mounts.append({"name": "ca", "mountPath": surroundings.CA_DIRECTORY, "readOnly": True})
    container: Json = {
        "name": CONTAINER,
        "image": spec.image or options.image,
        "command": [
            "python3",
            "-I",
            SERVER,
            f"--volume={VOLUME}",
            f"--state={VOLUME}/server",
            f"--listen=tcp:0.0.0.0:{PORT}",
            # Kubernetes has no limit of processes on a Pod. The uid is this sandbox's own, so this is one.
            f"--max-processes={spec.pids}",
            *([f"--ca={surroundings.CA_FILE}", f"--ca-joined={CA_JOINED}"] if options.ca_config_map else []),
        ],
        "workingDir": VOLUME,
        "env": _environment(spec, options, net, token_sha256),
        "ports": [{"name": "sandboxd", "containerPort": PORT}],
        "resources": _resources(spec, options),
        "volumeMounts": mounts,
        "readinessProbe": readiness(PORT),
    }
    it = pod(meta, container, options, uid=uid, volumes=volumes, restart="Never")
    if not spec.dns:
        # Where names may not be resolved they fail at once instead of after a resolver's patience.
        it["spec"] |= {
            "dnsPolicy": "None",
            "dnsConfig": {"nameservers": ["127.0.0.1"], "options": [{"name": "attempts", "value": "1"}]},
        }
    elif spec.setup_only:
        # The resolvers will be out of reach.
        it["spec"]["dnsConfig"] = {"options": [{"name": "timeout", "value": "1"}]}
    proxy = surroundings.proxy_of(spec, net)
    if proxy and proxy.address and proxy.host != proxy.address:
        it["spec"]["hostAliases"] = [{"ip": proxy.address, "hostnames": [proxy.host]}]
    return it


def _environment(
    spec: SandboxSpec, options: PodOptions, net: NetworkOptions, token_sha256: str
) -> list[Json]:
    ours = {
        "HOME": f"{VOLUME}/home",
        "TMPDIR": f"{VOLUME}/tmp",
        # The uid has no entry in /etc/passwd; many programs ask these first (getpass.getuser).
        "USER": "agent",
        "LOGNAME": "agent",
        "SWARMRUN_TOKEN_SHA256": token_sha256,
    }
    proxied = surroundings.proxy_variables(surroundings.proxy_of(spec, net))
    trusted = surroundings.ca_variables(options, CA_JOINED)
    fixed = {"LANG": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"}
    given = {**fixed, **proxied, **trusted, **spec.env, **ours}
    return [{"name": name, "value": value} for name, value in given.items()]


def _resources(spec: SandboxSpec, options: PodOptions) -> Json:
    memory = f"{spec.memory_mb}Mi"
    # On a volume of its own only /tmp and the log count.
    disk = 1024 if options.storage_class else spec.disk_mb
    return {
        "requests": {
            "cpu": f"{max(10, int(spec.cpu * 1000 * options.cpu_request_share))}m",
            "memory": memory,
            # What a clone mostly needs; a whole limit each would leave nodes empty. A choice.
            "ephemeral-storage": f"{min(disk, 1024)}Mi",
        },
        "limits": {
            "cpu": f"{max(10, int(spec.cpu * 1000))}m",
            "memory": memory,
            "ephemeral-storage": f"{disk}Mi",
        },
    }


def _empty_dir(name: str, size_mb: int) -> Json:
    return {"name": name, "emptyDir": {"sizeLimit": f"{size_mb}Mi"}}


def _work(spec: SandboxSpec, options: PodOptions, labels: Json) -> Json:
    if not options.storage_class:
        return _empty_dir("work", spec.disk_mb)
    return {
        "name": "work",
        "ephemeral": {
            "volumeClaimTemplate": {
                "metadata": {"labels": dict(labels)},
                "spec": {
                    "accessModes": ["ReadWriteOnce"],
                    "storageClassName": options.storage_class,
                    "resources": {"requests": {"storage": f"{spec.disk_mb}Mi"}},
                },
            }
        },
    }


def claim_name(pod: str) -> str:
    """Of the volume claim that Kubernetes makes for a Pod with a generic ephemeral volume."""
    return f"{pod}-work"


# ------------------------------------------------------------ once a run


def policy_name(place: RunPlace) -> str:
    return names.object_name(place, "sandboxes")


def sandbox_policies(place: RunPlace, spec: SandboxSpec, net: NetworkOptions) -> list[Json]:
    """Nothing in but the brain, nothing out but what was granted. They outlive the Pods: one that is ending
    must not be let out.

    What was granted for set-up only stands in a second policy, which selects sandboxes by a label that they are
    born with and lose. (Policies add up; none can take back what another gives.)
    """
    selects = {names.INSTANCE: names.label_value(place.run), names.COMPONENT: COMPONENT}
    granted = egress_rules(spec, net)
    ingress = network.from_brain(net, PORT)
    fence = policy(
        metadata(place, policy_name(place), COMPONENT),
        selects,
        ingress=ingress,
        egress=[] if spec.setup_only else granted,
    )
    if not spec.setup_only or not granted:
        return [fence]
    meta = metadata(place, names.object_name(place, "setup"), COMPONENT)
    return [fence, policy(meta, selects | {names.EGRESS: FOR_SETUP}, ingress=ingress, egress=granted)]


def born_open(spec: SandboxSpec, net: NetworkOptions) -> bool:
    """Whether the sandbox starts with what was granted for set-up."""
    return spec.setup_only and spec.setup == "ahead" and bool(egress_rules(spec, net))


def egress_rules(spec: SandboxSpec, net: NetworkOptions) -> list[Json]:
    rules = [network.to_block(rule.cidr, *rule.ports) for rule in spec.allow]
    if proxy := surroundings.proxy_of(spec, net):
        rules.append(network.to_block(proxy.cidr, proxy.port))
    elif spec.egress:
        rules.append(network.to_anywhere(net))
    if spec.dns:
        rules.append(network.to_dns(net))
    return rules


def server_name(place: RunPlace) -> str:
    return names.object_name(place, "sandboxd")


def server_files(place: RunPlace) -> Json:
    """The server's source for images without it: a ConfigMap that never changes."""
    files = sorted(SERVER_SOURCE.glob("*.py"))
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(place, server_name(place), COMPONENT),
        "immutable": True,
        "data": {file.name: file.read_text(encoding="utf-8") for file in files},
    }
