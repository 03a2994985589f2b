"""The audit page's addresses: who may come in, what is shown, and what a form does.

Only this machine is listened to. A visitor needs the token that was printed in the terminal; it is exchanged for a
cookie that no other site's request carries (SameSite=Strict) and no script reads. Requests under another host name
(DNS rebinding) are refused, and so are forms from elsewhere, by their `Origin` and by a token within the form. Nothing
is loaded from anywhere else, and no script runs but the one in `static` (Content-Security-Policy).

All answers are made in one thread, one after the other: each takes milliseconds.
"""

import asyncio
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

from relabel.errors import RelabelError, typed
from relabel.records import LABELS, Label
from relabel.web.desk import NAME_LENGTH, NOTE_LENGTH, Desk
from relabel.web.listing import Sheet, Text
from relabel.web.marking import mark, vocabulary

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

HERE: Final = Path(__file__).parent
HOSTS: Final = ("127.0.0.1", "localhost")
NAMED: Final = 3
"""Other people whose words stand there by name; of more the labels are counted."""

BODY_LIMIT: Final = 12 * NOTE_LENGTH + 4_096
"""Bytes of a form: a character of a note takes four in UTF-8, each of them three in a form; and its other fields."""

FORM_SECONDS: Final = 1.0
"""How long a form may take to come in: it comes from this machine. Less than what the server waits when it is ended."""

HEADERS: Final[Mapping[str, str]] = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    ),
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",  # under "no-referrer" browsers say Origin: null of our own forms too
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_TOLD: Final[Mapping[str, str]] = {
    "undone": "Taken back.",
    "nothing": "Nothing to undo since this page was started. Go to the pair: its label can be changed or taken back.",
    "noted": "Note saved.",
    "cleared": "Your label on this pair is taken back.",
    "unkept": "Not saved yet: a note is kept beside a label. Give a label, or empty the note.",
}
_ENTER_FIRST: Final = "Open the address that relabel printed in the terminal: the one that ends in ?token=…"


@dataclass(frozen=True, slots=True)
class Keys:
    """What a visitor must know: to come in, to be known again, and for a form to be ours. New at every start."""

    token: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    cookie: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    form: str = field(default_factory=lambda: secrets.token_urlsafe(24))


class _Refused(Exception):  # noqa: N818 - an answer, not a failure of ours
    """A request that is answered with a page that says why not."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


Handler = Callable[["Request"], Awaitable["Response"]]


class AuditPage:
    """The pages over a desk.

    Args:
        desk: pairs and people.
        folder: the run, as people type it.
        keys: new ones without.
        port: what the cookie is named after, since browsers send one port's cookies to all.
        blind: judges' and other people's words are shown of a pair only once the reviewer has labelled it.
    """

    def __init__(self, desk: Desk, folder: str, *, keys: Keys, port: int, blind: bool = True) -> None:
        import jinja2

        self._desk, self._folder, self._keys, self._blind = desk, folder, keys, blind
        self._cookie = f"relabel-{port}"
        self._templates = jinja2.Environment(
            loader=jinja2.FileSystemLoader(HERE / "templates"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.globals |= {
            "labels": LABELS, "form_token": keys.form, "blind": blind, "name_length": NAME_LENGTH,
            "note_length": NOTE_LENGTH, "address": _address, "apply": typed("apply", folder),
        }  # fmt: skip

    def app(self) -> "Starlette":
        """Return the application."""
        from starlette.applications import Starlette
        from starlette.exceptions import HTTPException
        from starlette.middleware import Middleware
        from starlette.middleware.trustedhost import TrustedHostMiddleware
        from starlette.routing import Mount, Route
        from starlette.staticfiles import StaticFiles

        routes = [
            Route("/", self._guarded(self._entry), methods=["GET"]),
            Route("/enter", self._guarded(self._enter), methods=["POST"]),
            Route("/next", self._guarded(self._next), methods=["GET"]),
            Route("/pair", self._guarded(self._go), methods=["GET"]),
            Route("/pair/{number:int}", self._guarded(self._pair), methods=["GET"]),
            Route("/pair", self._guarded(self._answer), methods=["POST"]),
            Route("/done", self._guarded(self._done), methods=["GET"]),
            Mount("/static", StaticFiles(directory=HERE / "static")),
        ]
        return Starlette(
            routes=routes,
            middleware=[
                Middleware(TrustedHostMiddleware, allowed_hosts=list(HOSTS), www_redirect=False),
            ],
            exception_handlers={HTTPException: self._elsewhere},
        )

    # -- who may come in -------------------------------------------------------------------------------

    def _guarded(self, handler: Handler) -> Handler:
        """Wrap a handler: only who is known gets to it, and what it refuses becomes a page."""

        async def guarded(request: "Request") -> "Response":
            try:
                self._check(request)
                return await handler(request)
            except _Refused as refused:
                return self._page("error.html", refused.status, message=refused.message)
            except LookupError:
                return self._page("error.html", 404, message="There is no such pair in this list.")
            except RelabelError as error:  # the disk is full, or the store is gone
                return self._page("error.html", 500, message=f"NOT SAVED: {error}")

        return guarded

    def _check(self, request: "Request") -> None:
        """Let in who brings the cookie or, to the first page, the token; no form that another site made."""
        if request.method == "POST":
            origin = request.headers.get("origin")
            if origin is not None and origin != f"http://{request.headers['host']}":
                raise _Refused(403, "This form was sent by another site. Nothing was done.")
        if _same(request.cookies.get(self._cookie, ""), self._keys.cookie):
            return
        if request.url.path == "/" and _same(request.query_params.get("token", ""), self._keys.token):
            return
        raise _Refused(403, _ENTER_FIRST)

    async def _form(self, request: "Request") -> dict[str, str]:
        """Read a form that this page made."""
        from starlette.requests import ClientDisconnect

        kind = request.headers.get("content-type", "").partition(";")[0].strip().casefold()
        length = request.headers.get("content-length", "")
        if kind != "application/x-www-form-urlencoded" or not length.isdecimal():
            raise _Refused(415, "That is not a form of this page.")
        if int(length) > BODY_LIMIT:
            raise _Refused(413, f"That is too long: a note has at most {NOTE_LENGTH:,} characters.")
        try:
            async with asyncio.timeout(FORM_SECONDS):
                read = await request.form()
        except (ClientDisconnect, TimeoutError) as error:  # the browser was closed, or hangs: whoever is there is told
            raise _Refused(408, "The form did not come in whole. Nothing was done: send it again.") from error
        form = {name: value for name, value in read.items() if isinstance(value, str)}
        if not _same(form.get("form", ""), self._keys.form):
            raise _Refused(403, "This form is not of this start of the page. Open the address in the terminal again.")
        return form

    async def _elsewhere(self, request: "Request", error: Exception) -> "Response":
        """Answer for an address or a method that there is none of."""
        del request
        return self._page("error.html", getattr(error, "status_code", 404), message="There is no such page here.")

    def _reviewer(self, text: str) -> str:
        try:
            return self._desk.reviewer(text)
        except ValueError as error:
            raise _Refused(400, str(error)) from error

    # -- pages -----------------------------------------------------------------------------------------

    async def _entry(self, request: "Request") -> "Response":
        """Ask who labels; whoever brought the token gets the cookie.

        Not by a redirect: a browser that came from another site would not send a strict cookie along.
        """
        del request
        return self._enter_page(200, "", "")

    def _enter_page(self, status: int, name: str, problem: str) -> "Response":
        page = self._page(
            "enter.html", status, folder=self._folder, size=self._desk.size, known=self._desk.reviewers(), name=name,
            problem=problem,
        )  # fmt: skip
        page.set_cookie(self._cookie, self._keys.cookie, httponly=True, samesite="strict", path="/")
        return page

    async def _enter(self, request: "Request") -> "Response":
        form = await self._form(request)
        try:
            reviewer = self._desk.reviewer(form.get("reviewer", ""))
        except ValueError as error:
            return self._enter_page(400, form.get("reviewer", "")[: 2 * NAME_LENGTH], str(error))
        return _to(self._open(reviewer))

    async def _next(self, request: "Request") -> "Response":
        return _to(self._open(self._reviewer(request.query_params.get("reviewer", ""))))

    def _open(self, reviewer: str, behind: int = 0, **told: Any) -> str:
        """Return the address of the reviewer's next pair without a label."""
        number = self._desk.next_open(reviewer, behind)
        return _address(f"/pair/{number}" if number else "/done", reviewer, **told)

    async def _go(self, request: "Request") -> "Response":
        """Go to a pair by its number; one that is too high is the last."""
        text = request.query_params.get("number", "")
        if not text.isdecimal() or len(text) > 9:
            raise _Refused(400, "The number of a pair is a whole number, from 1.")
        number = min(max(int(text), 1), self._desk.size)
        return _to(_address(f"/pair/{number}", self._reviewer(request.query_params.get("reviewer", ""))))

    async def _pair(self, request: "Request") -> "Response":
        sheet = self._desk.sheet(request.path_params["number"])
        asked = request.query_params
        return self._pair_page(
            sheet, self._reviewer(asked.get("reviewer", "")), after=asked.get("after", ""), told=asked.get("told", "")
        )

    def _pair_page(
        self,
        sheet: Sheet,
        reviewer: str,
        *,
        after: str = "",
        told: str = "",
        note: str | None = None,
        status: int = 200,
    ) -> "Response":
        said = self._desk.said(sheet)
        own = said.get(reviewer)
        query, candidate = sheet.question.query, sheet.pair.shown
        words = vocabulary(query)
        of_reference = frozenset().union(*[_vocabulary(text) for text in sheet.question.reference])
        of_candidate = _vocabulary(candidate)
        return self._page(
            "pair.html",
            status,
            reviewer=reviewer,
            number=sheet.number,
            size=self._desk.size,
            progress=self._desk.progress(reviewer),
            pair=sheet.pair.fingerprint,
            source=sheet.question.source,
            query=mark(query),
            references=[(mark(text.title, words, of_candidate), mark(text.text, words, of_candidate))
                        for text in sheet.question.reference],
            candidate=(mark(candidate.title, words, of_reference), mark(candidate.text, words, of_reference)),
            own=own,
            note=(own.note if own else "") if note is None else note,
            words=self._words(sheet, reviewer) if own or not self._blind else [],
            last=self._last(after, reviewer),
            told=_TOLD.get(told, ""),
            can_undo=self._desk.can_undo(reviewer),
        )  # fmt: skip

    def _words(self, sheet: Sheet, reviewer: str) -> list[tuple[str, str]]:
        """Return what others said of a pair: judges in the cascade's order, then people."""
        judges = [
            (word.judge, word.label if word.probability is None else f"{word.label} ({word.probability:.2f})")
            for word in sheet.pair.words
        ]
        people: dict[str, str] = {name: said.label for name, said in self._desk.said(sheet).items() if name != reviewer}
        if len(people) > NAMED:
            counts = Counter(people.values())
            people = {
                f"{len(people)} others": ", ".join(f"{counts[label]} {label}" for label in LABELS if counts[label])
            }
        return judges + list(people.items())

    def _last(self, after: str, reviewer: str) -> dict[str, Any] | None:
        """Return what to tell of the pair that was labelled just before."""
        if not after.isdecimal() or len(after) > 9 or not 1 <= int(after) <= self._desk.size:
            return None
        sheet = self._desk.sheet(int(after))
        own = self._desk.said(sheet).get(reviewer)
        return {"number": sheet.number, "own": own.label, "words": self._words(sheet, reviewer)} if own else None

    async def _done(self, request: "Request") -> "Response":
        reviewer = self._reviewer(request.query_params.get("reviewer", ""))
        return self._page(
            "done.html", 200, reviewer=reviewer, size=self._desk.size, progress=self._desk.progress(reviewer),
            others={name: one for name, one in self._desk.reviewers().items() if name != reviewer},
            last=self._last(request.query_params.get("after", ""), reviewer), folder=self._folder,
            can_undo=self._desk.can_undo(reviewer), told=_TOLD.get(request.query_params.get("told", ""), ""),
        )  # fmt: skip

    # -- what a form does ------------------------------------------------------------------------------

    async def _answer(self, request: "Request") -> "Response":
        form = await self._form(request)
        reviewer, action = self._reviewer(form.get("reviewer", "")), form.get("action", "")
        if action == "undo":
            number = self._desk.undo(reviewer)
            back = f"/pair/{number}" if number else _here(form, self._desk)
            return _to(_address(back, reviewer, told="undone" if number else "nothing"))
        sheet = self._desk.named(form.get("pair", ""))
        note = form.get("note", "").replace("\r\n", "\n").strip()
        if len(note) > NOTE_LENGTH:
            raise _Refused(413, f"That is too long: a note has at most {NOTE_LENGTH:,} characters.")
        for label in LABELS:
            if action == label:
                return self._label(reviewer, sheet, label, note)
        return self._step(reviewer, sheet, action, note)

    def _label(self, reviewer: str, sheet: Sheet, label: Label, note: str) -> "Response":
        self._desk.label(reviewer, sheet, label, note)
        return _to(self._open(reviewer, sheet.number, after=sheet.number))

    def _step(self, reviewer: str, sheet: Sheet, action: str, note: str) -> "Response":
        """Do what is no label; a note that was written is never lost by it."""
        number, size = sheet.number, self._desk.size
        own = self._desk.said(sheet).get(reviewer)
        if action == "clear":
            if own:
                self._desk.clear(reviewer, sheet)
            return _to(_address(f"/pair/{number}", reviewer, told="cleared"))
        if action not in ("skip", "next", "previous", "note"):
            raise _Refused(400, f"{action[:40]!r} is neither a label (relevant, partial, irrelevant) nor a step.")
        if own and note != own.note:
            self._desk.label(reviewer, sheet, own.label, note)
        elif note and not own:
            return self._pair_page(sheet, reviewer, told="unkept", note=note, status=409)
        if action == "skip":
            self._desk.skip(reviewer, sheet)
            return _to(self._open(reviewer, number))
        if action == "note":
            return _to(_address(f"/pair/{number}", reviewer, told="noted" if own else ""))
        if action == "next" and number == size:
            return _to(_address("/done", reviewer))
        return _to(_address(f"/pair/{number + 1 if action == 'next' else max(1, number - 1)}", reviewer))

    # -- answers ---------------------------------------------------------------------------------------

    def _page(self, template: str, status: int, /, **parts: Any) -> "Response":
        from starlette.responses import HTMLResponse

        return HTMLResponse(self._templates.get_template(template).render(**parts), status, dict(HEADERS))


def _vocabulary(text: Text) -> frozenset[str]:
    return vocabulary(text.title) | vocabulary(text.text)


def _same(brought: str, known: str) -> bool:
    return secrets.compare_digest(brought.encode("utf-8", "replace"), known.encode())


def _address(path: str, reviewer: str, **told: Any) -> str:
    return f"{path}?{urlencode({'reviewer': reviewer} | {name: value for name, value in told.items() if value})}"


def _here(form: Mapping[str, str], desk: Desk) -> str:
    """Return the address of the page that a form was on."""
    return f"/pair/{desk.named(form['pair']).number}" if form.get("pair") else "/done"


def _to(address: str) -> "Response":
    from starlette.responses import RedirectResponse

    return RedirectResponse(address, 303, dict(HEADERS))
