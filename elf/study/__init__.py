"""From configuration to the specifications of all runs."""
