"""What the distillation methods share."""
