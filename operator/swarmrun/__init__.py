"""SwarmRun: a swarm of coding agents works on one git repository, and what comes out can be believed."""
