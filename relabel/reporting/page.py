"""A page of sections → one HTML file that loads nothing and runs nothing."""

from importlib.resources import files

import jinja2
from markupsafe import Markup

from relabel.reporting.content import Page
from relabel.spelling import spelled


def render(page: Page) -> str:
    """Return the page as HTML: a function of the page alone.

    Data is escaped by the template. Characters that HTML may not hold, or that turn the direction of text, are spelled
    out wherever they stand.
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
    return spelled(html) + "\n"
