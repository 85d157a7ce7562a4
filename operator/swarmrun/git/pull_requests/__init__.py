"""Pull requests on GitHub, GitLab, Azure DevOps and Gitea/Forgejo: `for_remote` gives the one that fits.

Why not their client libraries: four would be needed, PyGithub and python-gitlab bring `requests` and (the former)
`cryptography` and PyNaCl, githubkit brings generated schemas of the whole interface, none is asynchronous and small,
and Azure DevOps and Gitea have none that is kept well. What is needed of each is three requests.
"""

from swarmrun.git.pull_requests.factory import for_remote

__all__ = ["for_remote"]
