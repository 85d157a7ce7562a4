"""Models: how each wants to be talked to, one turn at a time, what it costs, whether it answers."""
