"""Options that commands share, before the command or after it, and the cluster that they name."""

from __future__ import annotations

import os
import shlex
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from swarmrun.cli.typed import remember

if TYPE_CHECKING:
    from swarmrun.cli.kubectl.cluster import Cluster

T = TypeVar("T")

Namespace = Annotated[
    str, typer.Option("--namespace", "-n", help="Namespace of the run.  [default: the context's]")
]
Context = Annotated[str, typer.Option("--context", help="Context of the kubeconfig.")]
Kubeconfig = Annotated[
    str, typer.Option("--kubeconfig", help="Its file.  [default: $KUBECONFIG, ~/.kube/config]")
]
Operator = Annotated[
    str,
    typer.Option(
        "--operator",
        metavar="NAMESPACE/SERVICE",
        # Not typer's `envvar`: that would win over the option before the command.
        help="The operator's read interface.  [default: $SWARMRUN_OPERATOR, swarmrun-system/swarmrun-read]",
    ),
]

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


@dataclass(frozen=True)
class Options:
    """What was written; empty where nothing was."""

    namespace: str = ""
    context: str = ""
    kubeconfig: str = ""
    operator: str = ""

    def over(self, other: Options) -> Options:
        return Options(*(mine or theirs for mine, theirs in zip(self._all(), other._all(), strict=True)))

    def _all(self) -> tuple[str, str, str, str]:
        return self.namespace, self.context, self.kubeconfig, self.operator


def chosen(ctx: typer.Context, options: Options) -> Options:
    """The command's own options, else those before it. What is printed to be typed repeats them."""
    given = options.over(ctx.find_object(Options) or Options())
    said = {"--context": given.context, "--kubeconfig": given.kubeconfig}
    more = "".join(f" {name} {shlex.quote(value)}" for name, value in said.items() if value)
    remember("", given.namespace, f"kubectl swarm{more}")
    return given


def in_cluster(ctx: typer.Context, options: Options, work: Callable[[Cluster], Awaitable[T]]) -> T:
    """Runs `work` on the cluster that the options name. Raises InvalidResource where there is none."""
    import asyncio

    from swarmrun.cli.kubectl.cluster import Cluster, explained
    from swarmrun.errors import PermissionDenied
    from swarmrun.kube.api import KubeApi

    given = chosen(ctx, options)
    config = given.kubeconfig or os.environ.get("KUBECONFIG", "")
    if not config and Path("~/.kube/config").expanduser().exists():
        config = "~/.kube/config"
    config = os.pathsep.join(str(Path(part).expanduser()) for part in config.split(os.pathsep) if part)

    async def go() -> T:
        api = KubeApi(kubeconfig=config or None, context=given.context or None)
        try:
            namespace = given.namespace or _namespace(config, given.context)
            operator = given.operator or os.environ.get("SWARMRUN_OPERATOR", "")
            return await work(Cluster(api, namespace, operator))
        except PermissionDenied as exc:
            raise explained(exc) from exc
        finally:
            await api.close()

    return asyncio.run(go())


def _namespace(config: str, context: str) -> str:
    """The context's, inside a Pod its own, else `default`."""
    if not config:
        return SERVICE_ACCOUNT.read_text().strip() if SERVICE_ACCOUNT.exists() else "default"
    import yaml
    from kubernetes.aio.config import ConfigException, list_kube_config_contexts

    from swarmrun.errors import InvalidResource

    try:
        contexts, current = list_kube_config_contexts(config)
    except (ConfigException, OSError, yaml.YAMLError) as exc:
        raise InvalidResource(
            f"the kubeconfig {config} cannot be read: {exc}", mend="--kubeconfig FILE"
        ) from exc
    wanted = context or (current or {}).get("name", "")
    known: list[Any] = list(contexts or [])
    for one in known:
        if one["name"] == wanted:
            return one.get("context", {}).get("namespace") or "default"
    names = ", ".join(one["name"] for one in known)
    raise InvalidResource(
        f"the kubeconfig {config} has no context {wanted!r}", mend=f"known: {names or 'none'}"
    )
