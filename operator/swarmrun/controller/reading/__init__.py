"""The read interface: transcripts, diffs and artifacts of runs, for whoever may `get` the SwarmRun.

```
kubectl swarm ──► API server: services/proxy ──► server.py ──► access.py: whose token is it, may it see this run?
                                                     └──► runs.py: which run is that? ──► transcript.py, diffs.py
```
Everything comes from the brain's own store, so what an agent printed or forged in its sandbox plays no part.
"""
