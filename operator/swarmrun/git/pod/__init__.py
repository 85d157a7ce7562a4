"""One Pod a run that alone holds the git credential and alone reaches the remote: server, client, manifest.

A request is `POST /v1/<op>` with `Authorization: Bearer <token>`. The first line of a body is JSON, what follows its
line feed is a git bundle; answers have the same form. An error is `{"error": {"kind": a class of swarmrun.errors, …}}`.
Operations are the methods of `ports.RepositoryAccess`.
"""
