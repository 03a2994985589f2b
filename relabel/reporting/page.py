"""A page of sections → one HTML file that loads nothing and runs nothing."""

import re
from importlib.resources import files
from typing import Final

import jinja2
from markupsafe import Markup

from relabel.reporting.content import Page

_UNSHOWN: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")
"""What HTML may not hold, or turns the direction of text: controls but tab and line feed, halves of surrogate pairs."""


def render(page: Page) -> str:
    """Return the page as HTML: a function of the page alone.

    Data is escaped by the template. Characters that HTML may not hold, or that turn the direction of text, are spelled
    out wherever they stand: U+202E becomes a backslash, u, and 202e.
    """
    room = files("relabel.reporting")
    environment = jinja2.Environment(
        loader=jinja2.DictLoader({"page.html": (room / "page.html").read_text("utf-8")}),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = Markup((room / "page.css").read_text("utf-8"))  # noqa: S704 - our own
    html = environment.get_template("page.html").render(page=page, style=style)
    return _UNSHOWN.sub(lambda found: ascii(found[0])[1:-1], html) + "\n"
