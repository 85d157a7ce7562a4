"""Run as a process of its own, because some libraries read their environment once: one way out of the operator.

`python ways_out.py models|artifacts|api|sandbox URL` prints what it got, or why it did not.
"""

from __future__ import annotations

import asyncio
import os
import sys

from swarmrun.controller.trust import trust

trust(os.environ)


async def models(url: str) -> str:
    from swarmrun.api.swarmclass import Auth, ModelTier
    from swarmrun.models.client import client_for
    from swarmrun.models.probe import greet

    tier = ModelTier(provider="compatible", model="m", endpoint=url, auth=Auth(type="none"))
    client = client_for(tier, silence_s=5, total_s=5)
    found = await greet(client)
    await client.close()
    return "; ".join(f.message for f in found if not f.ok) or "answered"


async def artifacts(url: str) -> str:
    from swarmrun.artifacts.store import open_store

    os.environ |= {
        "AWS_ENDPOINT": url,
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
        "AWS_REGION": "x",
    }
    return str(open_store("s3://bucket/runs").get("key"))


async def api(url: str) -> str:
    import tempfile
    from pathlib import Path

    from swarmrun.kube.api import KubeApi

    with tempfile.TemporaryDirectory() as place:
        path = Path(place, "config")
        path.write_text(
            f"{{clusters: [{{name: c, cluster: {{server: '{url}'}}}}], users: [{{name: u, user: {{token: t}}}}], "
            "contexts: [{name: x, context: {cluster: c, user: u}}], current-context: x}"
        )
        client = KubeApi(kubeconfig=str(path))
        try:
            return str(await client.get("/version"))
        finally:
            await client.close()


async def sandbox(url: str) -> str:
    from swarmrun.sandbox.client import SandboxClient

    client = SandboxClient("one", "secret", url=url)
    try:
        return str(await client.health(timeout_s=5))
    finally:
        await client.close()


if __name__ == "__main__":
    try:
        print(asyncio.run(globals()[sys.argv[1]](sys.argv[2])))
    except Exception as exc:  # the test reads it  # noqa: BLE001
        print(f"{type(exc).__name__}: {exc}")
