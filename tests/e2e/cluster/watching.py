"""Pods of a namespace while they are there: their addresses, restarts, and last words."""

from __future__ import annotations

import json
import re
import threading
from typing import Any

from kubectl import Kubectl, command

_EXCUSE = re.compile(r"\s*(unable to retrieve container logs|failed to try resolving symlinks) .*\s*")
"""What comes as a container's log when it is just going: from the kubelet, and longer than many a log."""


class Watch(threading.Thread):
    """Looks twice a second until it is stopped; `with` does both."""

    def __init__(self, kubectl: Kubectl) -> None:
        super().__init__(daemon=True)
        self.logs: dict[str, str] = {}
        """Of sandboxes and git Pods, by Pod; as it last was."""
        self.addresses: dict[str, str] = {}
        self.restarted: set[str] = set()
        self.failure: BaseException | None = None
        self._namespace = kubectl.namespace
        self._stopped = threading.Event()

    def __enter__(self) -> Watch:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self.join(60)
        assert self.failure is None, self.failure

    def run(self) -> None:
        try:
            while not self._stopped.is_set():
                for pod in json.loads(self._kubectl("get", "pods", "-o", "json") or '{"items": []}')["items"]:
                    self._look(pod)
                self._stopped.wait(0.5)
        except BaseException as exc:  # noqa: BLE001  (told when it is stopped)
            self.failure = exc

    def _look(self, pod: dict[str, Any]) -> None:
        name, status = pod["metadata"]["name"], pod["status"]
        if address := status.get("podIP"):
            self.addresses[name] = address
        if any(c["restartCount"] for c in status.get("containerStatuses", [])):
            self.restarted.add(name)
        if pod["metadata"]["labels"].get("app.kubernetes.io/managed-by") != "swarmrun":
            return
        if status.get("phase") != "Pending":
            said = self._kubectl("logs", name)
            if not _EXCUSE.fullmatch(said):
                self.logs[name] = max(said, self.logs.get(name, ""), key=len)

    def _kubectl(self, *words: str) -> str:
        """What it printed; a Pod may be gone."""
        return command("kubectl", "-n", self._namespace, *words, patience=60).stdout
