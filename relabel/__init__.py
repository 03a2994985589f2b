"""Find false negatives among mined hard negatives, and relabel them."""
