"""Every fault of `relabel.engines.faults` over a real socket in whole runs, and the table of them in the README.

`python tests/test_fault_matrix.py` prints the table.
"""

import csv
import json
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from rows import training_file
from server import TRANSIENT, FakeServer, Plan

from relabel import config, pipeline, sources
from relabel.engines import transport
from relabel.engines.embeddings import EmbeddingEndpoint, EndpointSettings
from relabel.engines.faults import FAULTS, Rule
from relabel.errors import ServiceError, SettingsError
from relabel.pipeline import Summary

KEY = "sk-quite-secret-0123456789"
README = Path(__file__).parent.parent / "README.md"
BEGIN, END = "<!-- faults -->\n", "<!-- /faults -->"

KINDS = {
    "read timeout": ("hang",),
    "reset": ("reset",),
    "trickle": ("drip",),
    "large answer": ("endless",),
    "cut body": ("cut",),
    "408": ("timeout",),
    "409": ("conflict",),
    "429": ("rate limit ms", "rate limit date", "rate limit", "rate limit bare"),
    "5xx": ("error", "page"),
    "503 with Retry-After": ("busy",),
    "quota": ("no credit",),
    "payment": ("payment",),
    "key": ("key",),
    "forbidden": ("forbidden",),
    "no key": ("key", "forbidden"),
    "model": ("model",),
    "proxy login": ("proxy login",),
    "too long": ("too long", "too long at vllm", "large", "too large"),
    "filtered": ("filtered", "moderated"),
    "rejected": ("bad request", "bad fields"),
    "other status": ("teapot",),
    "refusal": ("refusal",),
    "content filter": ("filter",),
    "length": ("length",),
    "broken words": ("broken",),
    "no choices": ("empty", "list"),
    "no text": ("no content",),
    "error in 200": ("error in 200",),
    "not JSON": ("no json",),
    "page in 200": ("page in 200",),
    "usage": ("usage", "no usage"),
}
"""How `FakeServer` does what a fault is. Those that are not listed have a test of their own."""

PATIENT: dict[str, Any] = {"hang": {"timeout": 0.5}, "drip": {"timeout": 0.5, "patience": 0.6}}
"""Settings for a kind that would take long with the usual ones."""

OWN = {"no connection", "connect timeout", "certificate", "proxy", "silence", "half a character", "nothing useful"}

pytestmark = pytest.mark.usefixtures("tidy")


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give every test a key, no proxy, and less time for an answer than there is: two time-outs."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setattr(transport, "WHOLE", 2)
    for name in ("OPENAI_BASE_URL", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def shared() -> Iterator[FakeServer]:
    """One server for the module."""
    with FakeServer() as server:
        yield server


@pytest.fixture
def server(shared: FakeServer) -> FakeServer:
    """Give the server, behaving well and with nothing counted."""
    shared.plan = Plan()
    for counter in (shared.asked, shared.paid, shared.torn):
        counter.clear()
    return shared


def judge(folder: Path, url: str, *, rows: int = 4, prompt: str = "rlhn", **engine: Any) -> Summary:
    """Judge a few rows, twelve candidates in three groups each where the prompt is for groups."""
    source = folder / "train.jsonl"
    if not source.exists():
        training_file(source, rows, negatives=6, twins=False)
    quick = {"kind": "openai", "model": "fake", "base_url": url, "timeout": 3.0, "max_retries": 1, "concurrency": 8}
    quick |= {"api_key_env": "OPENAI_API_KEY", "patience": 20.0, "price": {"input": 1.0, "output": 1.0}}
    stage = {"judge": "llm", "name": "llm", "prompt": prompt, "group_size": 3, "engine": quick | engine}
    settings = config.parse(json.dumps({"stages": [stage]}))
    return pipeline.run(sources.open_source(source), settings, folder / "run")


def reasons(done: Summary) -> set[str]:
    """Return why pairs have no word, as the list for people says."""
    with done.files["flagged"].open(encoding="utf-8-sig", newline="") as lines:
        return {row["evidence"] for row in csv.DictReader(lines) if row["verdict"] == "undecided"}


def accounted(done: Summary) -> int:
    """Return how many pairs have no word, having checked that each pair is judged or has a reason."""
    [stage] = done.statistics["stages"]
    nones = int(sum(stage["none"].values()))
    assert stage["asked"] == stage["relevant"] + stage["partial"] + stage["irrelevant"] + nones == 24
    assert nones == done.undecided
    return nones


def check_the_end(error: ServiceError, rule: Rule, folder: Path) -> None:
    """Check how a run stops: exit code, the table's words, something to type, nothing that looks finished, no key."""
    start = rule.problem.partition("{where}")[2] or rule.problem
    assert error.exit_code == 3
    assert start.partition("{")[0].strip() in error.message
    assert error.hint
    assert KEY not in str(error)
    assert not (folder / "run" / "manifest.json").exists()
    assert not (folder / "run" / "cleaned.jsonl").exists()


ENDING = [(fault, kind) for fault, kinds in KINDS.items() for kind in kinds if FAULTS[fault].ends == "at once"]
PASSING = [(fault, kind) for fault, kinds in KINDS.items() for kind in kinds if FAULTS[fault].retry]
STAYING = [
    (fault, kind)
    for fault, kinds in KINDS.items()
    for kind in kinds
    if FAULTS[fault].ends != "at once" and FAULTS[fault].counts
]


def test_every_fault_has_a_test() -> None:
    """No rule of the table is without a case here, and every transient fault of the server is one that is retried."""
    assert KINDS.keys() | OWN == FAULTS.keys()
    assert not KINDS.keys() & OWN
    assert {kind for _, kind in PASSING} == set(TRANSIENT)


@pytest.mark.parametrize(("fault", "kind"), ENDING)
def test_what_ends_the_run(server: FakeServer, tmp_path: Path, fault: str, kind: str) -> None:
    """What every other request would suffer stops the run at once, with the table's words."""
    server.plan = Plan(1.0, (kind,), clears_after=99)
    with pytest.raises(ServiceError) as caught:
        judge(tmp_path, server.url, api_key_env=None if fault == "no key" else "OPENAI_API_KEY")
    check_the_end(caught.value, FAULTS[fault], tmp_path)
    assert server.total <= 3 * 8


@pytest.mark.parametrize(("fault", "kind"), PASSING)
def test_what_passes(server: FakeServer, tmp_path: Path, fault: str, kind: str) -> None:
    """What the table says is tried again, is: every pair is judged, and nothing is answered twice but torn replies."""
    assert FAULTS[fault].retry
    server.plan = Plan(0.5, (kind,), seed=2)
    done = judge(tmp_path, server.url, **PATIENT.get(kind, {}))
    assert accounted(done) == 0
    assert max(server.asked.values()) == 2
    twice = {key for key, times in server.paid.items() if times > 1}
    assert twice == {key for key, times in server.torn.items() if times}


@pytest.mark.parametrize(("fault", "kind"), STAYING)
def test_what_stays(server: FakeServer, tmp_path: Path, fault: str, kind: str) -> None:
    """What does not go away is the reason of its pairs, or changes nothing; a second run asks what was not kept."""
    rule = FAULTS[fault]
    server.plan = Plan(0.5, (kind,), seed=2, clears_after=99)
    done = judge(tmp_path, server.url, **PATIENT.get(kind, {}))
    assert (accounted(done) > 0) == bool(rule.outcome)
    assert reasons(done) == ({rule.outcome} if rule.outcome else set())
    hit = {key for key in server.asked if server.plan.fault(key, 1)}
    assert 0 < len(hit) < len(server.asked)
    assert {server.asked[key] for key in hit} == {2 if rule.retry else 1}
    if fault == "usage":
        assert done.spending["llm"]["usd"] is None
    first = dict(server.asked)
    judge(tmp_path, server.url, **PATIENT.get(kind, {}))
    assert {key for key, times in server.asked.items() if times > first[key]} == (set() if rule.kept else hit)


def test_everything_is_rejected(server: FakeServer, tmp_path: Path) -> None:
    """When the first requests are all rejected it is a setting that is wrong, and the run stops."""
    server.plan = Plan(1.0, ("bad fields",))
    with pytest.raises(ServiceError) as caught:
        judge(tmp_path, server.url, prompt="relevance")
    check_the_end(caught.value, FAULTS["rejected"], tmp_path)


def test_no_answer_ends(server: FakeServer, tmp_path: Path) -> None:
    """When the first answers all trickle the run stops; it does not wait for each of the others."""
    server.plan = Plan(1.0, ("drip",))
    with pytest.raises(ServiceError) as caught:
        judge(tmp_path, server.url, prompt="relevance", timeout=0.3, patience=0.4)
    check_the_end(caught.value, FAULTS["trickle"], tmp_path)
    assert server.total <= 3 * 8


def free_port() -> int:
    """Return a port where nobody listens."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return int(held.getsockname()[1])


def test_no_connection(tmp_path: Path) -> None:
    """Where nobody listens the run stops at once."""
    with pytest.raises(ServiceError) as caught:
        judge(tmp_path, f"http://127.0.0.1:{free_port()}/v1")
    check_the_end(caught.value, FAULTS["no connection"], tmp_path)


def test_a_connection_that_is_not_taken(tmp_path: Path) -> None:
    """A host that drops every packet (here: a full queue of connections) is not waited for longer than stated."""
    with socket.socket() as full, socket.socket() as other, socket.socket() as third:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for one in (other, third):
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        with pytest.raises(ServiceError) as caught:
            judge(tmp_path, f"http://127.0.0.1:{full.getsockname()[1]}/v1", timeout=0.3)
    check_the_end(caught.value, FAULTS["connect timeout"], tmp_path)


@contextmanager
def speaking(reply: bytes, context: ssl.SSLContext | None = None) -> Iterator[int]:
    """Answer every connection with the same bytes, or with silence where there are none; give the port."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(64)
        listening.settimeout(0.1)
        over = threading.Event()
        held: list[socket.socket] = []

        def serve() -> None:
            while not over.is_set():
                try:
                    taken, _ = listening.accept()
                    held.append(context.wrap_socket(taken, server_side=True) if context else taken)
                    if reply:
                        held[-1].recv(65536)
                        held[-1].sendall(reply)
                        held[-1].close()
                except OSError:
                    continue

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield int(listening.getsockname()[1])
        finally:
            over.set()
            thread.join()
            for one in held:
                one.close()


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_certificate_that_nobody_signed(tmp_path: Path) -> None:
    """A self-signed certificate stops the run at once and says which variable names the authority's file."""
    key, own = tmp_path / "key.pem", tmp_path / "own.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    subprocess.run([*command, "-keyout", str(key), "-out", str(own)], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(own, key)
    with speaking(b"", context) as port, pytest.raises(ServiceError, match="self-signed") as caught:
        judge(tmp_path, f"https://localhost:{port}/v1")
    check_the_end(caught.value, FAULTS["certificate"], tmp_path)
    assert "SSL_CERT_FILE" in caught.value.hint


def test_a_proxy_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy in the environment where nobody listens stops the run and is named as what it is."""
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{free_port()}")
    with pytest.raises(ServiceError) as caught:
        judge(tmp_path, "https://model.example/v1")
    check_the_end(caught.value, FAULTS["proxy"], tmp_path)
    assert "HTTPS_PROXY" in caught.value.hint


def test_a_proxy_that_nobody_knows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A word in the place of a proxy's address is a host of that name: the proxy is named, not the service."""
    monkeypatch.setenv("HTTP_PROXY", "garbage")
    with pytest.raises(ServiceError) as caught:
        judge(tmp_path, "http://model.example/v1")
    check_the_end(caught.value, FAULTS["proxy"], tmp_path)


@pytest.mark.parametrize("address", ["http://me:PASSWORD@127.0.0.1:99999", "http://", "ftp://127.0.0.1:1", "a:b:c"])
def test_a_proxy_that_is_no_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    """What cannot be an address is an error of the variable, which is named; a password in it is not repeated."""
    monkeypatch.setenv("HTTP_PROXY", address)
    with pytest.raises(SettingsError, match="HTTP_PROXY holds no address of a proxy") as caught:
        judge(tmp_path, "http://model.example/v1")
    assert "PASSWORD" not in str(caught.value)


@pytest.mark.parametrize("scheme", ["https", "http"])
def test_a_proxy_that_wants_a_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    """HTTP 407 from a proxy, on the way to either kind of address, says where name and password go."""
    refusal = b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    with speaking(refusal) as port:
        monkeypatch.setenv(f"{scheme.upper()}_PROXY", f"http://127.0.0.1:{port}")
        with pytest.raises(ServiceError) as caught:
            judge(tmp_path, f"{scheme}://model.example/v1")
    check_the_end(caught.value, FAULTS["proxy login"], tmp_path)
    assert "NAME:PASSWORD" in caught.value.hint


def test_a_server_that_is_silent_for_ever(server: FakeServer, tmp_path: Path) -> None:
    """A server that takes everything and answers nothing is given up as a whole after `patience`."""
    server.plan = Plan(1.0, ("hang",), clears_after=99)
    with pytest.raises(ServiceError) as caught:
        judge(tmp_path, server.url, timeout=30.0, patience=0.6)
    check_the_end(caught.value, FAULTS["silence"], tmp_path)


def test_half_a_character(server: FakeServer, tmp_path: Path) -> None:
    """A prompt that cannot be sent is the failure of its own pairs."""
    source = training_file(tmp_path / "train.jsonl", 4, negatives=6, twins=False)
    lines = source.read_text("utf-8").splitlines()
    source.write_text("\n".join([lines[0].replace("question", r"\ud800", 1), *lines[1:]]) + "\n", "utf-8")
    done = judge(tmp_path, server.url)
    assert reasons(done) <= {FAULTS["half a character"].outcome}
    accounted(done)


def test_answers_without_embeddings(server: FakeServer) -> None:
    """What holds no embeddings is asked for again, and then ends what needs them with exit code 3."""
    server.plan = Plan(1.0, ("no json",))
    endpoint = EmbeddingEndpoint(EndpointSettings("fake", server.url, max_retries=1))
    try:
        with pytest.raises(ServiceError, match="holds no embeddings"):
            endpoint.encode("query", ["text"])
    finally:
        endpoint.release()
    assert server.total == 2


# -- the table ---------------------------------------------------------------------------------------------------


def again(rule: Rule) -> str:
    """Say whether a request is asked again."""
    if not rule.retry:
        return "no"
    many = "up to `max_retries` times" if rule.counts else "for 10 minutes, no attempt counts"
    return f"{many}; Retry-After holds for all requests" if rule.pauses else many


def outcome(rule: Rule) -> str:
    """Say what becomes of the pairs where the fault stays and the run goes on."""
    if rule.ends == "at once":
        return "–"
    if not rule.outcome:
        return f"judged{f'; {rule.note}' if rule.note else ''}"
    kept = "kept: paid for" if rule.kept else "a resumed run asks again"
    return f"none, `{rule.outcome}`; {kept}{f' ({rule.note})' if rule.note else ''}"


WHEN = {
    "never": "goes on",
    "at once": "stops at once",
    "unheard": "stops, at once where nothing was ever heard",
    "all rejected": "stops when the first 3 to 10 requests all end so",
    "silent": "stops after `patience`",
    "all refused": "stops when nothing else comes for 10 minutes",
}


def table() -> str:
    """Return the table of all faults as Markdown."""
    lines = ["| Fault: the server … | Asked again | The pairs, if it stays | The run |", "|---|---|---|---|"]
    for rule in FAULTS.values():
        end = WHEN[rule.ends]
        if rule.problem:
            said = rule.problem.format(where="…", model="…", variable="…", for_key="", quiet="…")
            end += f", exit code 3: “{said}”"
        lines.append(f"| {rule.what} | {again(rule)} | {outcome(rule)} | {end} |")
    return "\n".join(lines) + "\n"


def test_the_readme_has_the_table() -> None:
    """What the README says of each fault is what the code does."""
    text = README.read_text("utf-8")
    assert text.partition(BEGIN)[2].partition(END)[0] == table()


if __name__ == "__main__":
    print(table(), end="")  # noqa: T201 - what the command is for
