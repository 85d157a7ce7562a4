"""What the engine knows of a run, projected into the resource's status."""
