r"""Text that may do nothing but be read: what a terminal or a browser would act on is spelled out.

ESC becomes the characters \x1b, U+202E a backslash, u, and 202e.
"""

import re
from typing import Final

_ACTED_ON: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")
"""C0 and C1 controls but tab and line feed, embeddings and overrides of direction, halves of surrogate pairs, and what
is no character."""


def spelled(text: str) -> str:
    """Return a text with every character spelled out that is acted on, not shown, or that HTML may not hold."""
    return _ACTED_ON.sub(lambda found: ascii(found[0])[1:-1], text)
