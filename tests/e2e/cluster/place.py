"""Where a module's runs work, and what must be left when they have ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kubectl import Kubectl, Release
from servers import Git

NAME, BRANCH = "url-shortener", "swarm/url-shortener"


@dataclass
class Place:
    """A namespace with its own models and git, which the operator works in."""

    release: Release
    kubectl: Kubectl
    git: Git
    resources: list[dict[str, Any]]
    """The example's, as `servers.example` gives them."""

    def clean(self) -> None:
        """What runs leave behind: nothing."""
        ours = ("-l", "app.kubernetes.io/managed-by=swarmrun")
        self.kubectl.until(lambda: not self.kubectl.names("pods", *ours), "all Pods of runs are gone")
        self.kubectl.until(lambda: not self.kubectl.names("pvc"), "all volumes of runs are gone")
