"""`cassette record` and `cassette serve`."""

from __future__ import annotations

from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    about = "Record models, or answer from a recording."
    cassette = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help=about)
    cassette.command("record")(record)
    cassette.command("serve")(serve)
    app.add_typer(cassette, name="cassette")


def record(
    out: Annotated[str, typer.Argument(metavar="OUT", help="File to write.", show_default=False)],
    upstream: Annotated[str, typer.Option("--upstream", help="Base URL of the real server.")],
    port: Annotated[int, typer.Option(help="Port on loopback; 0: any.")] = 0,
) -> None:
    """Pass requests on to a real server and write down its answers, secrets removed. Ctrl-C ends it."""
    from swarmrun.cassette.record import RecordingProxy

    with RecordingProxy(upstream, out, port=port) as proxy:
        typer.echo(f"endpoint: {proxy.url}   (recording to {out}; Ctrl-C ends)")
        _until_interrupted()


def serve(
    file: Annotated[str, typer.Argument(metavar="FILE", help="Cassette to answer from.", show_default=False)],
    port: Annotated[int, typer.Option(help="Port; 0: any.")] = 0,
    host: Annotated[str, typer.Option(help="Address to listen at; 0.0.0.0 in a Pod.")] = "127.0.0.1",
) -> None:
    """Answer as the recorded models did, over real HTTP. Ctrl-C ends it."""
    from swarmrun.cassette.server import CassetteServer

    with CassetteServer(file, host=host, port=port) as server:
        typer.echo(f"endpoint: {server.url}   (Ctrl-C ends)")
        _until_interrupted()


def _until_interrupted() -> None:
    import signal
    import threading

    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    ended.wait()
