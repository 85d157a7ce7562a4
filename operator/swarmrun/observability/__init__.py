"""What an operator shows of itself: logs, metrics, traces, and short texts in the engine's histories."""
