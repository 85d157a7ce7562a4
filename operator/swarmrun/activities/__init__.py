"""The side effects: one file per group of steps, each idempotent under at-least-once delivery."""
