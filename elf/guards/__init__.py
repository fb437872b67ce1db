"""What holds against a cluster's faults: one Snakemake a scale, leftovers, jobs that would never end."""
