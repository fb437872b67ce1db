"""The same work as the published scripts do it: the baseline that the project is measured against.

Written from their description, not copied: ``DataLoader`` with one transformation an image, one forward pass a class,
a new network for every step, instance normalisation as GroupNorm in the channels-first layout, PyTorch's allocator
and threads as they come. Random numbers are drawn as the project draws them, so that both sides compute the same.
"""
