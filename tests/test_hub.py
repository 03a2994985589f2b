"""Data sets on the hub, over a real socket: what is asked of it, and what each of its refusals becomes."""

import base64
import hashlib
import json
import os
import re
import shlex
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import uvicorn
import yaml
from starlette.applications import Starlette
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from relabel.errors import InputError
from relabel.formats import FORMATS, open_writer
from relabel.formats.hub import repo_of

ROOT = Path(__file__).parents[1]
ROWS = [{"query": f"q{n}", "pos": ["p"], "neg": ["n", "m"], "subset": "ä"} for n in range(3)]


class Hub:
    """As much of the hub as a commit needs; it remembers files, and refuses what it is told to refuse.

    Attributes:
        files: of the one data set, by name.
        asked: method and path of all requests, in order.
        made: what was said when the data set was made.
        refusals: status of the next answers to a path that holds these words.
        tokens: who asked for anything of the data set.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.made: list[dict[str, Any]] = []
        self.asked: list[str] = []
        self.refusals: dict[str, list[int]] = {}
        self.tokens: set[str] = set()
        self._stored: dict[str, bytes] = {}
        repo = "/api/datasets/{org}/{name}"
        app = Starlette(
            routes=[
                Route("/api/repos/create", self._create, methods=["POST"]),
                Route("/api/validate-yaml", self._validate, methods=["POST"]),
                Route(repo, self._info),
                Route(repo + "/tree/main", self._tree),
                Route(repo + "/preupload/main", self._preupload, methods=["POST"]),
                Route(repo + "/commit/main", self._commit, methods=["POST"]),
                Route("/datasets/{org}/{name}.git/info/lfs/objects/batch", self._batch, methods=["POST"]),
                Route("/store/{oid}", self._store, methods=["PUT"]),
            ]
        )
        app.add_middleware(BaseHTTPMiddleware, dispatch=self._refuse)
        self._socket = socket.socket(proto=socket.IPPROTO_TCP)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.listen()
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        config = uvicorn.Config(app, log_level="critical", access_log=False, ws="none", lifespan="off")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]}, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop serving."""
        self._server.should_exit = self._server.force_exit = True
        self._thread.join()
        self._socket.close()

    async def _refuse(self, request: Request, go_on: RequestResponseEndpoint) -> Response:
        path = request.url.path
        self.asked.append(f"{request.method} {path}")
        if "/org/name" in path or "/repos/" in path:
            self.tokens.add(request.headers.get("authorization", ""))
        for words, statuses in self.refusals.items():
            if words in path and statuses:
                return JSONResponse({"error": "because of the moon"}, statuses.pop(0))
        return await go_on(request)

    async def _create(self, request: Request) -> Response:
        self.made.append(await request.json())
        return JSONResponse({"url": f"{self.url}/datasets/org/name"}, 200 if len(self.made) == 1 else 409)

    async def _validate(self, request: Request) -> Response:
        await request.json()
        return JSONResponse({"errors": [], "warnings": []})

    async def _info(self, _: Request) -> Response:
        return JSONResponse({"error": "Repository not found"}, 401, {"x-error-code": "RepoNotFound"})

    async def _tree(self, _: Request) -> Response:
        return JSONResponse(
            [{"type": "file", "path": name, "size": len(data), "oid": "0"} for name, data in self.files.items()]
        )

    async def _preupload(self, request: Request) -> Response:
        names = [each["path"] for each in (await request.json())["files"]]
        modes = {name: "lfs" if name.endswith(".parquet") else "regular" for name in names}
        return JSONResponse(
            {"files": [{"path": name, "uploadMode": modes[name], "shouldIgnore": False} for name in names]}
        )

    async def _batch(self, request: Request) -> Response:
        objects = [
            each | {"actions": {"upload": {"href": f"{self.url}/store/{each['oid']}"}}}
            for each in (await request.json())["objects"]
        ]
        return JSONResponse({"transfer": "basic", "objects": objects})

    async def _store(self, request: Request) -> Response:
        data = await request.body()
        assert hashlib.sha256(data).hexdigest() == request.path_params["oid"]
        self._stored[request.path_params["oid"]] = data
        return Response()

    async def _commit(self, request: Request) -> Response:
        for line in (await request.body()).splitlines():
            told = json.loads(line)
            value = told["value"]
            match told["key"]:
                case "file":
                    self.files[value["path"]] = base64.b64decode(value["content"])
                case "lfsFile":
                    self.files[value["path"]] = self._stored[value["oid"]]
                case "deletedFile":
                    del self.files[value["path"]]
        return JSONResponse({"success": True, "commitUrl": f"{self.url}/datasets/org/name/commit/1", "commitOid": "1"})


@pytest.fixture
def hub() -> Iterator[Hub]:
    """Serve a hub for one test."""
    server = Hub()
    yield server
    server.close()


def convert(
    hub: str, folder: Path, *options: str, logged_in: bool = True, to: str = "bge", name: str = "org/name"
) -> subprocess.CompletedProcess[str]:
    """Type `relabel convert in.jsonl hf://datasets/org/name` where the hub is ours; temporary files go to a folder."""
    source = folder / "in.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in ROWS), "utf-8")
    (folder / "temporary").mkdir(exist_ok=True)
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "HUGGING"))}
    environment |= {
        "HF_ENDPOINT": hub,
        "HF_HOME": str(folder / "home"),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "TMPDIR": str(folder / "temporary"),
        "PYTHONPATH": str(ROOT),
    } | ({"HF_TOKEN": "hf_test"} if logged_in else {})
    return subprocess.run(
        [sys.executable, "-m", "relabel", "convert", source, f"hf://datasets/{name}", "--to", to, *options],
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
        env=environment,
    )


def left(folder: Path) -> list[str]:
    """List what stands in the folder for temporary files."""
    return sorted(each.name for each in (folder / "temporary").rglob("*"))


def test_a_new_data_set(hub: Hub, tmp_path: Path) -> None:
    """It is made private, and one commit brings Parquet and a card that says what it is and how it was made."""
    done = convert(hub.url, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "3 examples read, 0 rows rejected, 3 rows written: hf://datasets/org/name\n"
    assert [(each["name"], each["organization"], each["type"]) for each in hub.made] == [("name", "org", "dataset")]
    assert hub.made[0].get("visibility", hub.made[0].get("private")) in ("private", True)
    assert hub.tokens == {"Bearer hf_test"}
    assert sum("/commit/" in each for each in hub.asked) == 1
    assert sorted(hub.files) == ["README.md", "data/train-00000-of-00001.parquet"]
    (tmp_path / "got.parquet").write_bytes(hub.files["data/train-00000-of-00001.parquet"])
    got = pq.read_table(tmp_path / "got.parquet").to_pylist()
    assert got == ROWS
    _, head, body = hub.files["README.md"].decode().split("---\n", 2)
    assert yaml.safe_load(head) == {
        "pretty_name": "name",
        "task_categories": ["text-retrieval"],
        "size_categories": ["n<1K"],
        "tags": ["hard-negatives", "retrieval", "relabel"],
        "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": "data/train-*"}]}],
    }
    for words in ("3 queries", "in 3 rows", "`bge`", "| `neg` | `list<", "`relabel convert`", version("relabel")):
        assert words in body
    assert left(tmp_path) == []


def test_a_data_set_that_is_there(hub: Hub, tmp_path: Path) -> None:
    """Its card stays, its older train split goes, and everything else stays; who may see it is not asked again."""
    hub.made.append({})  # so that the next one is told that it is there
    hub.files = {
        "README.md": b"mine",
        "data/train-00000-of-00002.parquet": b"old",
        "data/train-00001-of-00002.parquet": b"old",
        "data/test-00000-of-00001.parquet": b"test",
    }
    done = convert(hub.url, tmp_path, "--public")
    assert done.returncode == 0, done.stderr
    data = hub.files.pop("data/train-00000-of-00001.parquet")
    assert data.startswith(b"PAR1")
    assert hub.files == {"README.md": b"mine", "data/test-00000-of-00001.parquet": b"test"}


def test_public_has_to_be_asked_for(hub: Hub, tmp_path: Path) -> None:
    """Only with --public may everybody see a new data set."""
    assert convert(hub.url, tmp_path, "--public").returncode == 0
    assert hub.made[0].get("visibility", hub.made[0].get("private")) in ("public", False)


def test_without_a_login_nothing_is_asked(hub: Hub, tmp_path: Path) -> None:
    """No token: one message that says what to type, before anything is sent or made."""
    done = convert(hub.url, tmp_path, logged_in=False)
    assert done.returncode == 2
    assert done.stderr == "relabel: org/name: to write to the hub you must be logged in\n  type: hf auth login\n"
    assert [each for each in hub.asked if "/org/name" in each or "/repos/" in each] == []
    assert left(tmp_path) == []


@pytest.mark.parametrize(
    ("status", "code", "words", "hint"),
    [
        (401, 2, "the hub does not know your token: because of the moon", "type: hf auth login"),
        (403, 2, "your token may not write there: because of the moon", "a data set of your own"),
        (404, 2, "the hub has no such place: because of the moon", "name of the organisation"),
        (500, 3, "the hub answered 500: because of the moon", "Try again later"),
    ],
)
def test_a_refusal_before_the_work(hub: Hub, tmp_path: Path, status: int, code: int, words: str, hint: str) -> None:
    """What the hub refuses when the data set is made is one clear error, before the input is read."""
    hub.refusals = {"/api/repos/create": [status]}
    done = convert(hub.url, tmp_path)
    assert done.returncode == code
    message, advice = done.stderr.splitlines()
    assert message == f"relabel: org/name: {words}"
    assert hint in advice
    assert hub.files == {}
    assert left(tmp_path) == []


@pytest.mark.parametrize(("status", "code"), [(401, 2), (403, 2), (404, 2), (500, 3)])
def test_a_refusal_after_the_work(hub: Hub, tmp_path: Path, status: int, code: int) -> None:
    """What was made is not lost: the message says where it is and how it gets there."""
    hub.refusals = {"/commit/": [status]}
    done = convert(hub.url, tmp_path)
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    found = re.search(r"goes there by: (.*)", done.stderr)
    assert found is not None
    *command, table, place, _, kind = shlex.split(found[1])
    assert (command, place, kind) == (
        ["hf", "upload", "org/name"],
        "data/train-00000-of-00001.parquet",
        "dataset",
    )  # fmt: skip
    assert pq.read_table(table).to_pylist() == ROWS


def test_a_hub_that_is_not_there(tmp_path: Path) -> None:
    """Nobody answers: one message, and the exit code of services."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        done = convert(f"http://127.0.0.1:{taken.getsockname()[1]}", tmp_path)
    assert done.returncode == 3
    assert done.stderr.startswith("relabel: org/name: the hub cannot be reached: ")
    assert left(tmp_path) == []


def test_a_bad_row_leaves_nothing(hub: Hub, tmp_path: Path) -> None:
    """An error while rows are read ends without a commit, and the temporary file is gone."""
    done = convert(hub.url, tmp_path, "--format", "tevatron")
    assert done.returncode == 2
    assert not any("/commit/" in each for each in hub.asked)
    assert left(tmp_path) == []


def test_folders_are_not_for_the_hub(hub: Hub, tmp_path: Path) -> None:
    """A shape of several files says how it gets there."""
    done = convert(hub.url, tmp_path, to="beir")
    assert done.returncode == 2
    assert "hf upload org/name FOLDER --repo-type dataset" in done.stderr
    assert hub.made == []


@pytest.mark.parametrize("name", ["hf://datasets/org/name", "hf://datasets/org/name/", "hf:/datasets/org/name"])
def test_names_of_data_sets(name: str) -> None:
    """The hub's own form, with or without a slash at the end, and as a `Path` spells it."""
    assert repo_of(name) == "org/name"


@pytest.mark.parametrize("name", ["hf://org/name", "hf://datasets/name", "hf://datasets/org/name/data/x.parquet"])
def test_names_of_something_else(name: str) -> None:
    """A model, half a name or one file is refused, with the form that is meant."""
    with pytest.raises(InputError, match="hf://datasets/ORG/NAME"), open_writer(name, FORMATS["bge"]):
        pass


def test_other_names_are_files() -> None:
    """What does not begin so is a file."""
    assert repo_of("data/hf.jsonl") is None
