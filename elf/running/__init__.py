"""What all commands share: their arguments, inputs, and drawings."""
