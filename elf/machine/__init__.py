"""The machine: device, memory, time limit, random streams, progress."""
