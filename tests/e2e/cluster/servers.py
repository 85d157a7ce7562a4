"""What runs need in a cluster besides the operator: their models and their remotes, as the example's own Pods."""

from __future__ import annotations

from functools import cache
from typing import Any

import yaml
from kubectl import IMAGE, ROOT, Kubectl, command

EXAMPLE = ROOT / "examples" / "url-shortener"
THERE = "swarmrun-demo"
"""The namespace that the example's manifests name."""


@cache
def rendered() -> str:
    """`kubectl kustomize` of the example."""
    done = command("kubectl", "kustomize", str(EXAMPLE))
    assert done.returncode == 0, done.stderr
    return done.stdout


def example(namespace: str) -> list[dict[str, Any]]:
    """What `kubectl apply -k` would apply, but its namespace, in another one, and with a class of its own name."""
    resources = list(yaml.safe_load_all(rendered().replace(THERE, namespace)))
    for resource in resources:
        if resource["kind"] == "Deployment":
            for container in resource["spec"]["template"]["spec"]["containers"]:
                container["image"] = IMAGE
        if resource["kind"] == "SwarmClass":
            resource["metadata"]["name"] = namespace
        if resource["kind"] == "SwarmRun":
            resource["spec"]["className"] = namespace
    return [r for r in resources if r["kind"] != "Namespace"]


def of_kind(resources: list[dict[str, Any]], *kinds: str) -> list[dict[str, Any]]:
    return [r for r in resources if r["kind"] in kinds]


class Git:
    """The git server of a namespace. A repository is made when it is first asked for."""

    def __init__(self, kubectl: Kubectl) -> None:
        self._kubectl = kubectl

    def url(self, name: str) -> str:
        return f"http://git.{self._kubectl.namespace}.svc:8080/{name}.git"

    def commit(self, name: str, files: dict[str, str]) -> None:
        """A first commit on `main`, made over there."""
        script = [f"git init -q -b main /tmp/{name} && cd /tmp/{name}"]
        for path, text in files.items():
            script.append(f"mkdir -p $(dirname {path}) && cat > {path} <<'__END__'\n{text}__END__")
        script.append("git add -A && git -c user.name=t -c user.email=t@t commit -q -m first")
        script.append(f"git push -q http://localhost:8080/{name}.git main")
        self.script("\n".join(script))

    def script(self, text: str) -> str:
        """What a shell over there prints; it ends at the first command that fails."""
        return self._kubectl("exec", "-i", "deploy/git", "--", "bash", "-e", given=text)

    def heads(self, name: str) -> dict[str, str]:
        """Branches and their trees."""
        form = "--format=%(refname:short) %(tree)"
        listed = self._git(name, "for-each-ref", form, "refs/heads")
        return dict(line.split() for line in listed.splitlines())

    def refs(self, name: str) -> set[str]:
        """All of them, in full."""
        return set(self._git(name, "for-each-ref", "--format=%(refname)").split())

    def pushes(self, name: str, branch: str) -> int:
        """How often the branch was moved, its making included."""
        return len(self._git(name, "reflog", "show", branch).splitlines())

    def _git(self, name: str, *words: str) -> str:
        return self._kubectl("exec", "deploy/git", "--", "git", "-C", f"/repositories/{name}.git", *words)


def serve(kubectl: Kubectl, resources: list[dict[str, Any]]) -> None:
    """Models and git of `resources`, up and answering."""
    kubectl.apply(*of_kind(resources, "ConfigMap", "Service", "Deployment", "NetworkPolicy"))
    for name in ("models", "git"):
        kubectl.rolled_out(name)


def recording(kubectl: Kubectl, name: str, cassette: dict[str, Any], resources: list[dict[str, Any]]) -> str:
    """Another model server, for a recording of one's own; its URL."""
    text = yaml.safe_dump(cassette, sort_keys=False)
    labels = {"app": name}
    made: list[dict[str, Any]] = [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"cassette.yaml": text}}
    ]
    for kind in ("Service", "Deployment"):
        (it,) = [r for r in of_kind(resources, kind) if r["metadata"]["name"] == "models"]
        it = yaml.safe_load(yaml.safe_dump(it))
        it["metadata"]["name"] = name
        if kind == "Service":
            it["spec"]["selector"] = labels
        else:
            it["spec"]["selector"]["matchLabels"] = it["spec"]["template"]["metadata"]["labels"] = labels
            pod = it["spec"]["template"]["spec"]
            pod["volumes"] = [{"name": "recording", "configMap": {"name": name}}]
            pod["containers"][0]["volumeMounts"] = pod["containers"][0]["volumeMounts"][:1]
        made.append(it)
    kubectl.apply(*made)
    kubectl.rolled_out(name)
    return f"http://{name}.{kubectl.namespace}.svc:8765/v1"
