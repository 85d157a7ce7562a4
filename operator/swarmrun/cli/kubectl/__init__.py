"""`kubectl swarm`: runs of a cluster, with the reader's own rights."""
