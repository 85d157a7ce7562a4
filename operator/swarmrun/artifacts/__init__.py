"""Large things under a key: turn records, bundles, diffs. One store, chosen by URL."""
