"""The audit page: pairs that a person labels in a browser, on this machine and nowhere else."""
