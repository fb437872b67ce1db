"""What FrePo alone is made of."""
