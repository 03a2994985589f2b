"""The audit page in Chromium, as people use it: by keyboard, two at once, through a killed server."""

import csv
import json
import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from visitors import Served, served

import relabel
from relabel.records import LABELS

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

DATA = Path(__file__).parents[1] / "data"
BIG = 1_000_000

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    """Start Chromium once."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    with playwright.sync_playwright() as player:
        chromium = player.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run the sample's three stages once."""
    made = tmp_path_factory.mktemp("sample") / "run"
    relabel.run(DATA / "sample.jsonl", DATA / "cascade.simulated.yaml", output=made)
    return made


@pytest.fixture
def folder(sample: Path, tmp_path: Path) -> Path:
    """Return a run that nobody has labelled."""
    return shutil.copytree(sample, tmp_path / "run")


def hostile_run(tmp_path: Path) -> Path:
    """Run over rows whose texts want to be more than texts; nobody judges them, so that all are listed."""
    script = "<script>window.hacked = 1; fetch('http://evil.example/')</script>"
    texts = (
        f"{script}</div></main><img src=//evil.example/x onerror='window.hacked=1'><style>*{{display:none}}</style>",
        "oil \u202egnp.exe\u202c \u2066 chain \u200f \x00\x1b[31m \ud800 \u0627\u0644\u0632\u064a\u062a",
        ("oil for the chain </script><script>window.hacked=1</script> " * (BIG // 55))[:BIG],
    )
    row = {
        "query_id": "q1",
        "query": f"oil for a chain {script}",
        "positive_passages": [{"docid": "p", "title": script, "text": f"use oil {script}"}],
        "negative_passages": [{"docid": f"n{i}", "title": script, "text": text} for i, text in enumerate(texts)],
    }
    (tmp_path / "train.jsonl").write_text(json.dumps(row) + "\n")
    (tmp_path / "rules.yaml").write_text("stages: [rules]\n")
    relabel.run(tmp_path / "train.jsonl", tmp_path / "rules.yaml", output=tmp_path / "hostile")
    return tmp_path / "hostile"


class Person:
    """A reviewer at a window of their own."""

    def __init__(self, browser: "Browser", name: str, **window: object) -> None:
        self.name = name
        self.context: BrowserContext = browser.new_context(**window)  # type: ignore[arg-type]
        self.page: Page = self.context.new_page()
        self.asked: list[str] = []
        self.context.on("request", lambda request: self.asked.append(request.url))
        self.said: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))

    def enter(self, served: Served) -> None:
        """Come in by the address of the terminal and type one's name."""
        self.page.goto(served.address)
        self.page.locator("#reviewer:focus").wait_for()
        self.page.keyboard.type(self.name)
        self.press("Enter")

    def press(self, key: str) -> None:
        """Press a key that leads to another page."""
        with self.page.expect_navigation(wait_until="domcontentloaded"):  # when the keys are listened to
            self.page.keyboard.press(key)

    @property
    def number(self) -> int:
        """The number of the pair on the screen, 0 at the end."""
        found = re.search(r"/pair/(\d+)", self.page.url)
        return int(found[1]) if found else 0


def wanted(person: int, number: int) -> str:
    """Say which label a person gives a pair: any rule will do, as long as the two differ."""
    return LABELS[(number * (person + 1) + number // 5) % 3]


KEYS = {"relevant": "1r", "partial": "2p", "irrelevant": "3i"}


def label_as_wanted(people: list[Person], numbers: range) -> None:
    """Let both label these pairs by turns, each by other keys."""
    for number in numbers:
        for who, person in enumerate(people):
            assert person.number == number
            person.press(KEYS[wanted(who, number)][(number + who) % 2])


def test_two_reviewers_through_thirty_pairs_and_a_kill(browser: "Browser", folder: Path, tmp_path: Path) -> None:
    """By keyboard, at once, with skips, undo and notes; killed and restarted half-way: every label once, none lost."""
    relabel.audit_export(folder, tmp_path / "out.csv")
    with (tmp_path / "out.csv").open(encoding="utf-8-sig", newline="") as stream:
        thirty = list({(row["query"], row["candidate"]): row["pair"] for row in csv.DictReader(stream)}.values())[:30]
    (tmp_path / "thirty.csv").write_text("pair\n" + "".join(f"{name}\n" for name in thirty))
    people = [Person(browser, "Anna"), Person(browser, "Ben B.")]
    anna, ben = people
    with served(folder, "--csv", str(tmp_path / "thirty.csv")) as page:
        for person in people:
            person.enter(page)
        label_as_wanted(people, range(1, 12))
        anna.press("1")
        anna.press("u")
        anna.press("s")
        anna.press("k")
        ben.page.keyboard.press("n")
        ben.page.keyboard.type("1 2 3 u s: a note, no keys")
        ben.page.keyboard.press("Escape")
        ben.press("3")
        page.kill()
    with served(folder, "--csv", str(tmp_path / "thirty.csv")) as page:
        for person, first in ((anna, 12), (ben, 13)):
            person.enter(page)
            assert (person.name, person.number) == (person.name, first)
        anna.press(KEYS[wanted(0, 12)][0])
        label_as_wanted(people, range(13, 31))
        assert [person.number for person in people] == [0, 0]
        assert "all 30 pairs have your label" in anna.page.inner_text("h1")
        assert "relabel apply" in anna.page.inner_text("main")
        ben.page.goto(page.address.replace("?", "pair/12?reviewer=Ben+B.&"))
        assert ben.page.input_value("#note") == "1 2 3 u s: a note, no keys"
        assert ben.page.get_attribute("button.irrelevant", "aria-pressed") == "true"
        ben.press(KEYS[wanted(1, 12)][0])
        queue = [relabel_pair(anna, page, number) for number in range(1, 31)]
    assert sorted(queue) == sorted(thirty)
    relabel.audit_export(folder, tmp_path / "after.csv", everything=True)
    with (tmp_path / "after.csv").open(encoding="utf-8-sig", newline="") as stream:
        said = {row["pair"]: row["people"] for row in csv.DictReader(stream)}
    expected = {
        name: f"Anna: {wanted(0, number)}; Ben B.: {wanted(1, number)}" for number, name in enumerate(queue, start=1)
    }
    expected[queue[11]] += " (1 2 3 u s: a note, no keys)"
    assert {name: said[name] for name in queue} == expected
    assert [url for person in people for url in person.asked if not url.startswith("http://127.0.0.1:")] == []
    assert [line for person in people for line in person.said] == []


def relabel_pair(person: Person, page: Served, number: int) -> str:
    """Return the fingerprint of the pair with this number."""
    answer = person.context.request.get(page.address.replace("?", f"pair/{number}?reviewer=x&"))
    found = re.search(r'name="pair" value="(\w+)"', answer.text())
    assert found
    return found[1]


def test_hostile_texts_are_nothing_but_text(browser: "Browser", tmp_path: Path) -> None:
    """Scripts, styles, direction marks and a megabyte: shown as they are, nothing runs, nothing is asked elsewhere."""
    person = Person(browser, "<script>window.hacked=1</script>"[:60])
    with served(hostile_run(tmp_path)) as page:
        person.enter(page)
        for number in (1, 2, 3):
            assert person.number == number
            assert person.page.evaluate("window.hacked") is None
            assert person.page.locator("main script, main img, main style, main iframe").count() == 0
            assert person.page.locator("script").count() == 1
            assert "<script>window.hacked" in person.page.inner_text(".query")
            text = person.page.inner_text(".candidate .box")
            if number == 1:
                assert "<style>*{display:none}</style>" in text
            elif number == 2:
                assert "⟨U+202E⟩gnp.exe⟨U+202C⟩ ⟨U+2066⟩" in text
                assert person.page.locator(".sign").count() >= 5
            else:
                assert "Show the other" in text
                assert person.page.evaluate("performance.getEntriesByType('navigation')[0].duration") < 5_000
                person.page.click("summary >> text=Show the other")
                whole = "document.querySelector('.candidate .text').parentNode.textContent.length"
                assert person.page.evaluate(whole) > BIG
                box = person.page.locator(".candidate .box").bounding_box()
                assert box
                assert box["height"] < 800
            person.press("i")
        assert person.page.evaluate("window.hacked") is None
    assert person.said == []
    assert {url.split("/")[2] for url in person.asked} == {f"127.0.0.1:{page.port}"}


def test_it_works_by_mouse_without_scripts_and_with_a_reader(browser: "Browser", folder: Path) -> None:
    """Plain forms do all that keys do; everything that can be pressed has a name, and what was said is announced."""
    plain = Person(browser, "Mia", java_script_enabled=False)
    reader = Person(browser, "Rea")
    with served(folder) as page:
        plain.page.goto(page.address)
        plain.page.get_by_label("Your name").fill("Mia")
        plain.page.get_by_role("button", name="Start").click()
        plain.page.get_by_role("textbox", name="Note").fill("by mouse")
        plain.page.get_by_role("button", name="Partial").click()
        assert plain.number == 2
        assert "you: partial" in plain.page.get_by_role("status").inner_text()
        plain.page.get_by_role("button", name="Undo").first.click()
        assert plain.number == 1
        assert plain.page.get_by_role("progressbar").get_attribute("value") == "0"
        plain.page.get_by_label("Pair", exact=True).fill("9")
        plain.page.get_by_role("button", name="Go").click()
        assert plain.number == 9
        reader.enter(page)
        reader.press("2")
        reader.page.locator("#say", has_text="you: partial").wait_for(state="attached")
        assert "Pair 2 of 200" in reader.page.inner_text("#say")
        unnamed = (
            "[...document.querySelectorAll('button, a, input:not([type=hidden]), textarea, summary, [tabindex]')]"
            ".filter(one => !(one.labels?.length || one.textContent.trim() || one.ariaLabel)).length"
        )
        assert reader.page.evaluate(unnamed) == 0
        reader.page.keyboard.press("?")
        assert "take your last step back" in reader.page.inner_text("#help")
        page.command.process.send_signal(signal.SIGINT)  # with windows open
        assert page.command.wait(20) == 0


def test_the_buttons_are_always_in_reach(browser: "Browser", folder: Path) -> None:
    """Wide: candidate beside reference; phone: below one another, nothing cut off, buttons for thumbs."""
    with served(folder) as page:
        for width, height in ((1280, 800), (390, 844)):
            person = Person(browser, f"Pia {width}", viewport={"width": width, "height": height})
            person.enter(page)
            for _ in range(2):
                parts = ("section.candidate", "section.reference", "button.relevant", "button.irrelevant")
                boxes = {name: box for name in parts if (box := person.page.locator(name).bounding_box())}
                assert len(boxes) == 4
                beside = boxes["section.candidate"]["y"] == boxes["section.reference"]["y"]
                assert beside == (width > 1000)
                for name in ("button.relevant", "button.irrelevant"):
                    assert boxes[name]["y"] + boxes[name]["height"] <= height
                    assert boxes[name]["height"] >= 44
                assert person.page.evaluate("document.documentElement.scrollWidth") == width
                person.press("1")
