"""Cases of checkpoints: files, positions, precisions, whole commands on a broken one."""
