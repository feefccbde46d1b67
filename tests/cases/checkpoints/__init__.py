"""Cases of checkpoints: files, positions, precisions, and whole commands on a broken one."""
