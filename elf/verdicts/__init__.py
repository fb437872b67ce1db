"""The paper's printed numbers, and what the results say of them."""
