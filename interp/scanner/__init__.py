"""Is there a backdoor nobody told us about? Leakage, motifs, reconstruction, verdict."""
