"""New hard negatives: asked for, held against cheap rules, judged like any other, and used with care."""
