"""The class of a run that names none: one model for every role, out of options or the environment.

| variable | meaning |
| --- | --- |
| `OPENAI_API_KEY` | key of the endpoint |
| `OPENAI_BASE_URL` | OpenAI-compatible endpoint |
| `OPENAI_MODEL` | model, where `--model` is not given |
| `AZURE_OPENAI_ENDPOINT` | Azure OpenAI, where neither `--endpoint` nor `OPENAI_BASE_URL` is given |
| `AZURE_OPENAI_DEPLOYMENT` | its deployment, where `--model` is not given |
| `AZURE_OPENAI_API_KEY` | its key; absent: the Azure login of this machine |
"""

from __future__ import annotations

from collections.abc import Mapping

from swarmrun.api.swarmclass import (
    AllowedRepositories,
    Auth,
    ClassMeta,
    Models,
    ModelTier,
    SwarmClass,
    SwarmClassSpec,
)
from swarmrun.errors import InvalidResource

NAME = "local"


DEFAULT_PARALLELISM = 4


def default_class(
    env: Mapping[str, str], *, model: str = "", endpoint: str = "", parallelism: int | None = None
) -> SwarmClass:
    """`parallelism`: what the run asks for; here its user is also who sets the ceiling.

    Raises InvalidResource when nothing says which model to use."""
    return SwarmClass(
        metadata=ClassMeta(name=NAME),
        spec=SwarmClassSpec(
            models=Models(standard=model_tier(env, model=model, endpoint=endpoint)),
            parallelism=parallelism or DEFAULT_PARALLELISM,
            repositories=AllowedRepositories(schemes=["https", "ssh", "http", "file"]),
        ),
    )


def model_tier(env: Mapping[str, str], *, model: str = "", endpoint: str = "") -> ModelTier:
    if endpoint.startswith("cassette:"):
        return ModelTier(endpoint=endpoint, model=model or "cassette", auth=Auth(type="none"))
    endpoint = endpoint or env.get("OPENAI_BASE_URL", "")
    azure = env.get("AZURE_OPENAI_ENDPOINT", "")
    if azure and not endpoint:
        return ModelTier(
            provider="azure-openai",
            endpoint=azure,
            model=_named(model or env.get("AZURE_OPENAI_DEPLOYMENT", ""), "AZURE_OPENAI_DEPLOYMENT"),
            auth=Auth(type="key" if env.get("AZURE_OPENAI_API_KEY") else "entra"),
        )
    return ModelTier(
        provider="compatible" if endpoint else "openai",
        endpoint=endpoint,
        model=_named(model or env.get("OPENAI_MODEL", ""), "OPENAI_MODEL"),
        # Servers on one's own machine usually want no key.
        auth=Auth(type="key" if env.get("OPENAI_API_KEY") or not endpoint else "none"),
    )


def _named(model: str, variable: str) -> str:
    if not model:
        raise InvalidResource(
            "no model is named",
            field="spec.models.standard.model",
            mend=f"--model NAME, {variable}=NAME, or a SwarmClass in the file",
        )
    return model
