"""The audit page as a visitor without a browser, and without any code of ours, sees it."""

import http.client
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from html import unescape
from pathlib import Path
from urllib.parse import urlencode

from processes import Command

URL = re.compile(r"http://127\.0\.0\.1:(\d+)/\?token=(\S+)")


class Page:
    """An answer."""

    def __init__(self, answer: http.client.HTTPResponse) -> None:
        self.status = answer.status
        self.headers = answer.headers
        self.body = answer.read().decode("utf-8")
        self.to = answer.headers.get("location", "")

    def field(self, name: str) -> str:
        """Return what a hidden field of its forms holds."""
        found = re.search(rf'name="{name}" value="([^"]*)"', self.body)
        assert found, self.body
        return unescape(found[1])


class Visitor:
    """Somebody who holds a cookie, and the token of forms once a page was seen."""

    def __init__(self, port: int, token: str = "") -> None:
        self.port, self.cookie, self.form = port, "", ""
        if token:
            page = self.get(f"/?token={token}")
            self.cookie = page.headers["set-cookie"].split(";")[0]
            self.form = page.field("form")

    def ask(self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None) -> Page:
        """Send a request as it is."""
        line = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            cookie = {"Cookie": self.cookie} if self.cookie else {}
            line.request(method, path, body, {**cookie, **(headers or {})})
            return Page(line.getresponse())
        finally:
            line.close()

    def get(self, path: str, **headers: str) -> Page:
        """Open an address."""
        return self.ask("GET", path, headers=headers)

    def post(self, path: str, fields: Mapping[str, str], **headers: str) -> Page:
        """Send a form of the page."""
        body = urlencode({"form": self.form, **fields}).encode()
        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        return self.ask("POST", path, body, {**kind, **headers})

    def answer(self, reviewer: str, number: int, action: str, note: str = "") -> Page:
        """Open a pair and press a button on it."""
        pair = self.get(f"/pair/{number}?{urlencode({'reviewer': reviewer})}").field("pair")
        return self.post("/pair", {"reviewer": reviewer, "pair": pair, "action": action, "note": note})


class Served:
    """A page that is served, by a process of its own."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.command = Command(["audit", "serve", str(folder), *options], cwd=folder.parent, environment={})
        ends = time.monotonic() + 60
        while not (found := URL.search(self.command.stdout)):
            assert self.command.process.poll() is None, self.command.stderr
            assert time.monotonic() < ends, self.command.stdout
            time.sleep(0.05)
        self.port, self.token, self.address = int(found[1]), found[2], found[0]

    def visitor(self) -> Visitor:
        """Let somebody in."""
        return Visitor(self.port, self.token)

    def kill(self) -> None:
        """End it as a power cut does."""
        self.command.process.kill()
        self.command.wait()


@contextmanager
def served(folder: Path, *options: str) -> Iterator[Served]:
    """Serve the page of a run, until the block ends."""
    page = Served(folder, *options)
    try:
        yield page
    finally:
        page.kill()
