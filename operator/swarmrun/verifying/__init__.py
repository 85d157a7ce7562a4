"""Gates, judgements and fix rounds: what is measured, what is said, and which of two results is better."""
