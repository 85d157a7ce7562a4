"""What the operator costs, measured in ways that every cluster has."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from kubectl import Kubectl, Release

TICKS = 100
"""Clock ticks a second in /proc/PID/stat (USER_HZ, 100 on every Linux of today)."""


class Operator:
    """The operator's own process and its requests."""

    def __init__(self, release: Release) -> None:
        self._release = release
        self._schema = release.kubectl.namespace

    # ------------------------------------------------------------ requests

    @contextmanager
    def counted(self) -> Iterator[None]:
        """While this holds the API server counts the operator's requests apart from all others', by a FlowSchema
        of its own (as any service account's they go to `workload-low` with or without it)."""
        kubectl = Kubectl("default")
        accounts = self._release.kubectl.names("serviceaccounts")
        account = next(name for name in accounts if name.startswith("swarmrun"))
        namespace = self._release.kubectl.namespace
        subject = {"kind": "ServiceAccount", "serviceAccount": {"namespace": namespace, "name": account}}
        everything = {
            "verbs": ["*"],
            "apiGroups": ["*"],
            "resources": ["*"],
            "clusterScope": True,
            "namespaces": ["*"],
        }
        kubectl.apply(
            {
                "apiVersion": "flowcontrol.apiserver.k8s.io/v1",
                "kind": "FlowSchema",
                "metadata": {"name": self._schema},
                "spec": {
                    "priorityLevelConfiguration": {"name": "workload-low"},
                    "matchingPrecedence": 500,
                    "distinguisherMethod": {"type": "ByUser"},
                    "rules": [
                        {
                            "subjects": [subject],
                            "resourceRules": [everything],
                            "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
                        }
                    ],
                },
            }
        )
        try:
            self._before = self._dispatched()
            yield
        finally:
            kubectl("delete", "flowschema", self._schema, "--ignore-not-found")

    def requests(self) -> int:
        """Since `counted` began, watches included. Of the API server that answers, where there are several."""
        return self._dispatched() - self._before

    def _dispatched(self) -> int:
        metrics = Kubectl("default")("get", "--raw", "/metrics")
        pattern = (
            rf'^apiserver_flowcontrol_dispatched_requests_total{{flow_schema="{self._schema}",.*}} (\S+)$'
        )
        return round(sum(float(n) for n in re.findall(pattern, metrics, re.MULTILINE)))

    # ------------------------------------------------------------ the process

    def memory(self) -> float:
        """Most resident megabytes that the process ever had."""
        return int(re.findall(r"VmHWM:\s+(\d+) kB", self._proc("status"))[0]) / 1024

    def resident(self) -> float:
        """Resident megabytes now."""
        return int(re.findall(r"VmRSS:\s+(\d+) kB", self._proc("status"))[0]) / 1024

    def cpu(self) -> float:
        """Seconds that the process and its ended children have worked."""
        fields = self._proc("stat").rsplit(")", 1)[1].split()
        return sum(int(ticks) for ticks in fields[11:15]) / TICKS

    def _proc(self, file: str) -> str:
        return self._release.kubectl("exec", self._release.pod(), "--", "cat", f"/proc/1/{file}")
