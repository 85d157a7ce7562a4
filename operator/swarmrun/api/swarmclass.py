"""`SwarmClass`: what a platform team sets. A run's values may narrow it, never exceed its ceilings."""

from __future__ import annotations

from enum import StrEnum
from ipaddress import ip_address, ip_network
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, StringConstraints, model_validator

from swarmrun.api import API_VERSION
from swarmrun.api.base import ApiModel, Cidr, Name, Usd
from swarmrun.api.plan import Criterion
from swarmrun.api.run import Budget, Gate, ObjectMeta, SandboxOptions


class Tier(StrEnum):
    PREMIUM = "premium"
    STANDARD = "standard"
    LIGHT = "light"


class AgentRole(StrEnum):
    """Every role there is; each uses a tier."""

    PLANNER = "planner"
    CODER = "coder"
    TEST_WRITER = "test-writer"
    RESEARCHER = "researcher"
    INTEGRATOR = "integrator"
    JUDGE = "judge"
    FIXER = "fixer"
    SOLO = "solo"


class Auth(ApiModel):
    """How the brain authenticates to a model. Never seen by a sandbox."""

    type: Literal["none", "key", "entra"] = "key"
    """`entra`: workload identity or the developer's own Azure login. Default key."""
    env: Annotated[str, StringConstraints(max_length=200)] = ""
    """Environment variable of the brain that holds the key. Default `OPENAI_API_KEY`
    (`AZURE_OPENAI_API_KEY` for provider azure-openai)."""
    file: Annotated[str, StringConstraints(max_length=500)] = ""
    """File that holds the key (a mounted Secret); wins over `env`. Default: none."""


class Prices(ApiModel):
    """US dollars per million tokens. Where one is set the built-in table no longer counts for this model. Default: the
    table's."""

    input: Usd | None = None
    """Input tokens that were not cached. Absent beside another price: the cost is unknown."""
    cached_input: Usd | None = None
    """Input tokens read from the provider's cache. Absent beside another price: as `input`."""
    cache_write: Usd | None = None
    """Input tokens written to it. Absent beside another price: as `input`."""
    output: Usd | None = None
    """Output tokens, reasoning included. Absent beside another price: the cost is unknown."""


class ProfileOverrides(ApiModel):
    """Where the built-in table does not know a model or is wrong. Absent: the table's value."""

    api: Literal["responses", "chat"] | None = None
    """Which interface of the endpoint is spoken. Absent: the table's."""
    reasoning_effort: Annotated[str, StringConstraints(max_length=20)] | None = None
    """As the model names it; empty: not sent. Absent: the table's."""
    reasoning_replay: Literal["none", "encrypted", "reasoning_content", "reasoning_details"] | None = None
    """How reasoning of earlier turns goes back to the server. Absent: the table's."""
    temperature: Annotated[str, StringConstraints(pattern=r"^[0-9](\.[0-9]+)?$")] | None = None
    """Sent only when set here or in the table. Absent: the table's."""
    json_schema: Literal["strict", "object", "none"] | None = None
    """How an answer in JSON is asked for. Absent: the table's."""
    parallel_tools: bool | None = None
    """Several tool calls in one answer. Absent: the table's."""
    edit_tool: Literal["edit_file", "apply_patch"] | None = None
    """Tool that agents edit files with. Absent: the table's."""
    context_window: Annotated[int, Field(ge=2000)] | None = None
    """Tokens of input and output together. Absent: the table's."""
    max_output: Annotated[int, Field(ge=256)] | None = None
    """Tokens one answer may have. Absent: the table's."""


class ModelTier(ApiModel):
    provider: Literal["openai", "azure-openai", "compatible"] = "compatible"
    """Whose interface it is. Default compatible (any OpenAI-compatible server)."""
    endpoint: Annotated[str, StringConstraints(max_length=1000)] = ""
    """Base URL, e.g. `http://127.0.0.1:8000/v1`. Default for openai: its public address.
    `cassette:FILE` (local runs only, relative to the resource's file) answers from a recording."""
    model: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    """Model or deployment name."""
    auth: Auth = Field(default_factory=Auth)
    profile: ProfileOverrides = Field(default_factory=ProfileOverrides)
    prices: Prices = Field(default_factory=Prices)


class Models(ApiModel):
    """At least `standard`; the others default to it."""

    standard: ModelTier
    """Used by every role whose tier is not given."""
    premium: ModelTier | None = None
    """For planning, merging and judging. Default: standard."""
    light: ModelTier | None = None
    """For reading and notes. Default: standard."""

    def tier(self, tier: Tier) -> ModelTier:
        return {Tier.PREMIUM: self.premium, Tier.LIGHT: self.light}.get(tier) or self.standard


DEFAULT_ROLES: dict[AgentRole, Tier] = {
    AgentRole.PLANNER: Tier.PREMIUM,
    AgentRole.CODER: Tier.STANDARD,
    AgentRole.TEST_WRITER: Tier.STANDARD,
    AgentRole.RESEARCHER: Tier.LIGHT,
    AgentRole.INTEGRATOR: Tier.PREMIUM,
    AgentRole.JUDGE: Tier.PREMIUM,
    AgentRole.FIXER: Tier.STANDARD,
    AgentRole.SOLO: Tier.STANDARD,
}


class AllowedRepositories(ApiModel):
    hosts: Annotated[list[str], Field(max_length=100)] = Field(default_factory=list[str])
    """Host names a run may name; `*.example.com` takes subdomains. Default: any."""
    schemes: Annotated[list[Literal["https", "ssh", "http", "file"]], Field(max_length=4)] = Field(
        default_factory=lambda: ["https", "ssh"]
    )
    """`http` and `file` (local paths) only where this says so. Default: https and ssh."""


class JudgeDefaults(ApiModel):
    threshold: Annotated[int, Field(ge=0, le=100)] = 70
    """A run may ask for more, never for less. Default 70."""
    rubric: Annotated[list[Criterion], Field(max_length=20)] = Field(default_factory=list[Criterion])
    """Criteria where a run names none. Default: works as asked, structure, tests, security."""


NamespacePattern = Annotated[str, StringConstraints(pattern=r"^[-a-z0-9*]{1,63}$")]


Label = Annotated[str, StringConstraints(max_length=253)]


class EgressProxy(ApiModel):
    """Open egress (`sandbox.egress.enabled`) is this proxy and nothing else: it decides about domains."""

    url: Annotated[str, StringConstraints(pattern=r"^https?://[^\s/@?#]+:[0-9]{1,5}/?$", max_length=300)]
    """E.g. `http://proxy.example.com:3128`. No credentials: agents can read it."""
    cidr: Cidr
    """Its addresses, e.g. `10.1.2.3/32`. Of a single address the name in `url` is known without DNS."""
    no_proxy: Annotated[
        list[Annotated[str, StringConstraints(pattern=r"^[^\s,]+$", max_length=253)]], Field(max_length=50)
    ] = Field(default_factory=list[str])
    """Hosts and domains that clients reach without it, where `sandbox.egress.allow` grants them. Default: only
    the sandbox itself."""


class PodSettings(ApiModel):
    """How the Pods of runs are made. Ignored where agents run as processes or containers."""

    image_pull_secrets: Annotated[list[Name], Field(max_length=10)] = Field(default_factory=list[Name])
    """Secrets of the run's namespace by which images are pulled. Default: the operator's setting."""
    service_account: Label = ""
    """Of sandbox and git Pods; its token is never mounted. Default: the namespace's `default`."""
    runtime_class: Label = ""
    """E.g. `gvisor` or `kata`. Default: the cluster's."""
    priority_class: Label = ""
    """Default: the cluster's."""
    storage_class: Label = ""
    """Sandboxes get a volume of this class, deleted with the Pod. Default: `emptyDir`."""
    node_selector: dict[str, str] = Field(default_factory=dict[str, str])
    """Labels of the nodes to use. Default: any node."""
    tolerations: Annotated[
        list[
            Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9./_-]+(=[A-Za-z0-9._-]*)?(:[A-Za-z]+)?$")]
        ],
        Field(max_length=20),
    ] = Field(default_factory=list[str])
    """Taints to tolerate, written as `kubectl taint` does: `key`, `key:Effect`, `key=value:Effect`.
    Default: none."""
    labels: dict[str, str] = Field(default_factory=dict[str, str])
    """Further labels of Pods; SwarmRun's own are not replaced. Default: none."""
    annotations: dict[str, str] = Field(default_factory=dict[str, str])
    """Further annotations of Pods. Default: none."""
    ca_config_map: Label = ""
    """ConfigMap of the run's namespace whose `ca.crt` set-up, agents and git trust besides the image's
    certificates. Default: those alone."""
    egress_proxy: EgressProxy | None = None
    """Proxy of sandboxes, for domains. Default: open egress is every public address."""
    git_cidrs: Annotated[list[Cidr], Field(max_length=50)] = Field(default_factory=list[str])
    """Where git remotes (or the proxy to them) are. Default: anywhere, on the remote's port."""
    git_ca_config_map: Label = ""
    """ConfigMap of the run's namespace whose `ca.crt` git Pods trust besides the image's certificates.
    Default: `caConfigMap`."""
    git_env: dict[str, str] = Field(default_factory=dict[str, str])
    """Environment of git Pods, e.g. HTTPS_PROXY. Default: none."""
    waive_network_policy: bool = False
    """Runs go on where the cluster does not enforce NetworkPolicy; agents then reach whatever the network lets
    them. Default: such runs stop with NetworkPolicyNotEnforced."""


class SwarmClassSpec(ApiModel):
    default: bool = False
    """Runs that name no class use this one. At most one class may say so. Default: no."""
    allowed_namespaces: Annotated[list[NamespacePattern], Field(max_length=200)] = Field(
        default_factory=list[NamespacePattern]
    )
    """Namespaces whose runs may use this class; `team-*` takes all that begin so. Default: any."""
    models: Models
    roles: dict[AgentRole, Tier] = Field(default_factory=dict[AgentRole, Tier])
    """Which role uses which tier. Default: planner, integrator and judge premium, researcher light, the
    others standard."""
    sandbox: SandboxOptions = Field(default_factory=SandboxOptions)
    """Defaults; resources and egress are also ceilings."""
    pods: PodSettings = Field(default_factory=PodSettings)
    """How Pods are made, in a cluster."""
    ceilings: Budget = Field(default_factory=Budget)
    """No run gets more; also the default where a run says nothing. Default: no bound, and the defaults of a run."""
    parallelism: Annotated[int, Field(ge=1, le=100)] = 4
    """Agents of one run at work at once, at most; also the default of a run. Default 4."""
    max_sandboxes: Annotated[int, Field(ge=2, le=100_000)] | None = None
    """Sandboxes of all runs of this class together, at once; a run waits (WaitingForCapacity) until two are free.
    Default: no cap but the operator's."""
    gates: Annotated[list[Gate], Field(max_length=20)] = Field(default_factory=list[Gate])
    """For runs that name none. Default: what the repository shows."""
    judge: JudgeDefaults = Field(default_factory=JudgeDefaults)
    """Ground rules of judging."""
    repositories: AllowedRepositories = Field(default_factory=AllowedRepositories)
    """Which repositories runs may name."""

    @model_validator(mode="after")
    def _a_proxy_can_be_found(self) -> Self:
        proxy = self.pods.egress_proxy
        if proxy is None:
            return self
        try:
            single = ip_network(proxy.cidr, strict=False).num_addresses == 1
        except ValueError as exc:
            raise ValueError(
                f"pods.egressProxy.cidr: {proxy.cidr!r} is no address range; write it as 10.1.2.3/32"
            ) from exc
        if not single and not self.sandbox.egress.dns and not _is_address(urlsplit(proxy.url).hostname or ""):
            raise ValueError(
                "pods.egressProxy.url names a host that sandboxes cannot resolve; give a cidr of one address, "
                "name the address in url, or grant sandbox.egress.dns"
            )
        return self

    def tier_of(self, role: AgentRole) -> Tier:
        return self.roles.get(role) or DEFAULT_ROLES[role]


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


class ClassMeta(ObjectMeta):
    namespace: Name = "default"
    """Ignored: a class is cluster-scoped."""


class SwarmClass(ApiModel):
    api_version: Literal["swarmrun.dev/v1alpha1"] = API_VERSION
    """Always `swarmrun.dev/v1alpha1`."""
    kind: Literal["SwarmClass"] = "SwarmClass"
    """Always `SwarmClass`."""
    metadata: ClassMeta
    """Its name is what runs refer to."""
    spec: SwarmClassSpec
    """What holds for its runs."""
