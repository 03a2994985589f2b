"""Synthetic hard negatives: who writes them, what must be true of them, and what is done with them."""
