"""What there is: jobs, what is stale, lineage, explanation."""
