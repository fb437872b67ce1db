"""The training protocol: steps, replay, seeds at once, FrePo's own."""
