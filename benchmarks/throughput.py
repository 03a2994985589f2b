"""How fast is the API stage: relabel, a bare pool of workers, curator, distilabel and umbrela judge the same pairs.

One local server answers at once, or after a fixed latency. Every contestant sends the same prompts to the same model
name, with the same number of requests in flight; the server counts what came, and who sent anything but all prompts,
each once, is told. Each measurement is a process of its own, with a server of its own, in turns. All of it, the server
too, shares the cores of one machine: trust the ratios.
"""

import argparse
import json
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from throughput_prompts import CANDIDATES, MODEL, TEMPLATES, cut, write_prompts, write_rows

HERE: Final = Path(__file__).parent
PARTS: Final = HERE / "peers"
PAIR, GROUP = TEMPLATES
DEMANDS: Final = (0.9, 5.0)
"""What is demanded of relabel: of the bare pool's requests/s, and times the best peer's pairs/s.

The second compares relabel's group prompts with a peer's pair prompts, hence prompts of two kinds: most of it is the
number of pairs in a group. Beside it stands the ratio at the same prompts.
"""

CONFIG: Final = """\
stages:
  - judge: llm
    prompt: {template}
    engine:
      {{kind: openai, model: {model}, base_url: "{url}", choices: text, concurrency: {concurrency}, max_tokens: 256}}
    group_size: {candidates}
    shuffle: false
"""

INSTALL: Final[Mapping[str, Sequence[str]]] = {
    "curator": ("bespokelabs-curator",),
    "distilabel": ("distilabel[openai]", "requests"),
    "umbrela-main": ("umbrela @ git+https://github.com/castorini/umbrela", "openai"),
    "umbrela": ("umbrela", "setuptools<81", "pyserini==0.35.0", "faiss-cpu"),
}
"""What each peer's environment holds. distilabel imports requests without asking for it; umbrela of PyPI imports
pkg_resources, faiss and a name that later pyserini do not have."""

NEWER: Final = ("python3.13", "python3.12")
"""What umbrela of GitHub runs on."""


@dataclass(frozen=True, slots=True)
class Contestant:
    """One way to ask all prompts of a kind.

    Attributes:
        name: as the table has it.
        script: of the folder peers.
        peer: whose environment runs it; "" = this Python.
        raised: asks as many at once as all others; else as many as it likes.
        slow: asks one after the other, and is given fewer prompts.
        alone: judges pairs alone, under a system message of its own.
    """

    name: str
    script: str
    peer: str = ""
    raised: bool = True
    slow: bool = False
    alone: bool = False


RELABEL: Final = Contestant("relabel run", "relabel_run.py")
BARE: Final = Contestant("bare AsyncOpenAI pool", "bare_pool.py")
CONTESTANTS: Final = (
    BARE,
    RELABEL,
    Contestant("curator", "curator_judge.py", "curator"),
    Contestant("curator, its own", "curator_judge.py", "curator", raised=False),
    Contestant("distilabel", "distilabel_judge.py", "distilabel"),
    Contestant("distilabel, its own", "distilabel_judge.py", "distilabel", raised=False),
    Contestant("umbrela of GitHub", "umbrela_main_judge.py", "umbrela-main", alone=True),
    Contestant("umbrela of GitHub, its own", "umbrela_main_judge.py", "umbrela-main", raised=False, alone=True),
    Contestant("umbrela of PyPI", "umbrela_judge.py", "umbrela", slow=True, alone=True),
)


@dataclass(frozen=True, slots=True)
class Found:
    """What one measurement gave."""

    requests: int
    pairs: int
    seconds: float
    cpu: float
    peak: float
    server_cpu: float
    most_at_once: int
    prompts: str
    fault: str


# -- measuring -------------------------------------------------------------------------------------------


@contextmanager
def serving(latency: float) -> Iterator[str]:
    """Run a server; give its address."""
    command = [sys.executable, str(PARTS / "quick_server.py"), "--latency", str(latency)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.kill()


def stats_of(url: str) -> dict[str, Any]:
    """Return what a server has counted."""
    with urllib.request.urlopen(f"{url.removesuffix('/v1')}/stats") as answer:  # noqa: S310 - our own server
        told: dict[str, Any] = json.load(answer)
    return told


@dataclass(frozen=True, slots=True)
class Bench:
    """What all measurements share: the files, and how it is asked."""

    work: Path
    pairs: int
    slow_pairs: int
    concurrency: int
    peers: Path | None
    limit: float

    def python_of(self, contestant: Contestant) -> Path | None:
        """Return the Python that runs a contestant; None where its environment is missing."""
        if not contestant.peer:
            return Path(sys.executable)
        python = (self.peers or self.work) / contestant.peer / "bin" / "python"
        return python if python.exists() else None

    def measure(self, contestant: Contestant, kind: str, latency: float) -> Found:
        """Let one contestant ask everything, and compare what the server saw with what should have come."""
        size = "slow" if contestant.slow else "all"
        with serving(latency) as url, tempfile.TemporaryDirectory(dir=self.work) as folder:
            command = self._command(contestant, kind, size, url, Path(folder))
            environment = os.environ | {"HOME": folder, "NO_PROXY": "127.0.0.1", "OPENAI_API_KEY": "none"}
            if contestant.peer:
                environment.pop("PYTHONPATH", None)
            said, complaint = outcome(command, environment, folder, self.limit)
            seen = stats_of(url)
        if complaint:
            return Found(0, 0, 0.0, 0.0, 0.0, 0.0, 0, "", complaint)
        return self.found(said, seen, kind, contestant)

    def _command(self, contestant: Contestant, kind: str, size: str, url: str, folder: Path) -> list[str]:
        python = str(self.python_of(contestant))
        script = [python, "-W", "ignore", str(PARTS / contestant.script)]
        if contestant is RELABEL:
            config = folder / "cascade.yaml"
            settings = {"template": TEMPLATES[kind], "model": MODEL, "url": url}
            config.write_text(CONFIG.format(**settings, concurrency=self.concurrency, candidates=CANDIDATES), "utf-8")
            return [*script, str(self.work / "rows.jsonl"), str(config)]
        at_once = str(self.concurrency if contestant.raised else 0)
        requests = self.work / f"{kind}.{size}.jsonl"
        return [*script, str(requests), "--url", url, "--model", MODEL, "--concurrency", at_once]

    def found(self, told: Mapping[str, Any], seen: Mapping[str, Any], kind: str, contestant: Contestant) -> Found:
        """Put together what a contestant tells of itself and what the server saw of it."""
        pairs = self.slow_pairs if contestant.slow else self.pairs
        requests = pairs if kind == PAIR else pairs // CANDIDATES
        faults = []
        if not seen["requests"] == seen["distinct"] == requests:
            faults.append(f"{seen['requests']:,} requests came, {seen['distinct']:,} different, of {requests:,}")
        answers = pairs if contestant is RELABEL else requests
        if told["answers"] != answers:
            faults.append(f"{told['answers']:,} answers of {answers:,}")
        return Found(
            requests, pairs, told["seconds"], told["cpu"], told["peak"],
            seen["cpu"], seen["most_at_once"], seen["prompts"], "; ".join(faults),
        )  # fmt: skip


def outcome(
    command: Sequence[str], environment: Mapping[str, str], folder: str, limit: float
) -> tuple[dict[str, Any], str]:
    """Run a command to its end or its limit; return the JSON of its last line, or why there is none.

    Nothing that it started outlives it.
    """
    with subprocess.Popen(
        command, env=environment, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    ) as process:  # fmt: skip
        try:
            said, complained = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            return {}, f"stopped after {limit:.0f} s"
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    last = (said.splitlines() or [""])[-1]
    return (json.loads(last), "") if last.startswith("{") and not process.returncode else ({}, last_words(complained))


def last_words(stderr: str) -> str:
    """Return the last line of an error, shortened."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip(" │╰╯─╭╮")]
    return (lines[-1] if lines else "it said nothing")[:160]


# -- environments ----------------------------------------------------------------------------------------


def install(peers: Path, names: Sequence[str]) -> None:
    """Make an environment for each peer; what pip says against it is kept in a file beside it."""
    for name in names:
        folder = peers / name
        told = peers / f"{name}.failed"
        told.unlink(missing_ok=True)
        print(f"installing {', '.join(INSTALL[name])} in {folder}", file=sys.stderr)
        newer = [found for each in NEWER if name == "umbrela-main" and (found := shutil.which(each))]
        subprocess.run([(newer or [sys.executable])[0], "-m", "venv", str(folder)], check=True)
        done = subprocess.run(
            [str(folder / "bin" / "pip"), "install", "-q", *INSTALL[name]], capture_output=True, text=True, check=False
        )
        if done.returncode:
            errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or [
                last_words(done.stderr)
            ]
            told.write_text(errors[0][:160], "utf-8")


def missing(bench: Bench, contestant: Contestant) -> str:
    """Return why a contestant cannot take part; "" where it can."""
    if bench.python_of(contestant) is None:
        return "no environment: --install makes it, --peers FOLDER names it"
    told = (bench.peers or bench.work) / f"{contestant.peer}.failed"
    return told.read_text("utf-8") if contestant.peer and told.exists() else ""


# -- the table -------------------------------------------------------------------------------------------


def main() -> int:
    """Print one table; 0 when what is demanded holds, 1 when not."""
    options = read_options()
    with tempfile.TemporaryDirectory(prefix="throughput-", dir=options.work) as work:
        bench = Bench(
            Path(work), options.pairs, min(options.slow_pairs, options.pairs), options.concurrency,
            options.peers, options.limit,
        )  # fmt: skip
        prepare(bench)
        if options.install:
            install(options.peers, [name for name in INSTALL if not options.only or name in options.only])
        print(f"{os.cpu_count()} cores, {platform.platform()}, Python {platform.python_version()}")
        print(
            f"{options.pairs:,} pairs, {options.concurrency} at once, median of {options.repeats} (lowest to highest)"
        )
        return table(bench, options.latency, options.kinds, options.repeats, options.only)


def read_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=20_000, help=f"a multiple of {CANDIDATES}")
    parser.add_argument("--slow-pairs", type=int, default=1_000, help="for what asks one prompt after the other")
    parser.add_argument("--latency", type=float, nargs="+", default=[0.05, 0.0], help="seconds before each answer")
    parser.add_argument("--kinds", nargs="+", choices=list(TEMPLATES), default=list(TEMPLATES))
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--limit", type=float, default=1_800, help="seconds for one measurement")
    parser.add_argument("--only", nargs="+", choices=["bare", "relabel", *INSTALL], default=[], metavar="WHO")
    parser.add_argument("--peers", type=Path, metavar="FOLDER", help=f"holds environments {', '.join(INSTALL)}")
    parser.add_argument(
        "--install",
        action="store_true",
        help="make them there; umbrela's needs Java 21 in JAVA_HOME",
    )
    parser.add_argument("--work", type=Path, help="where to make a temporary folder")
    options = parser.parse_args()
    if options.pairs % CANDIDATES or options.slow_pairs % CANDIDATES:
        parser.error(f"--pairs and --slow-pairs are multiples of {CANDIDATES}")
    if options.install and not options.peers:
        parser.error("--install needs --peers FOLDER")
    return options


def prepare(bench: Bench) -> None:
    """Write rows and prompts into the working folder."""
    rows = bench.work / "rows.jsonl"
    write_rows(rows, bench.pairs)
    for kind in TEMPLATES:
        requests = write_prompts(rows, kind, bench.work / f"{kind}.all.jsonl")
        slow = requests * bench.slow_pairs // bench.pairs
        cut(bench.work / f"{kind}.all.jsonl", slow, bench.work / f"{kind}.slow.jsonl")


Rounds = dict[Contestant, list[Found]]
"""What each contestant gave, round by round."""


def measure_all(bench: Bench, kind: str, latency: float, repeats: int, takers: Sequence[Contestant]) -> Rounds:
    """Let all contestants ask in turns, as often as told.

    One that fails is not tried again, and one with its own concurrency has one turn.
    """
    rounds: Rounds = {contestant: [] for contestant in takers}
    for number in range(repeats):
        for contestant, found in rounds.items():
            if found and not (contestant.raised and found[-1].pairs):
                continue
            found.append(one := bench.measure(contestant, kind, latency))
            rate = f"{one.pairs / one.seconds:,.0f} pairs/s" if one.pairs else "failed"
            print(f"  round {number + 1}, {kind}, {latency * 1000:.0f} ms: {contestant.name}: {rate} {one.fault}",
                  file=sys.stderr)  # fmt: skip
    return rounds


def rates(found: Sequence[Found]) -> list[float]:
    """Return the requests/s of each round."""
    return [each.requests / each.seconds for each in found if each.pairs]


def thrifts(found: Sequence[Found]) -> list[float]:
    """Return the requests for each second of CPU time, by rounds."""
    return [each.requests / each.cpu for each in found if each.pairs]


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Return the median over rounds of one rate over another's in the same round."""
    return statistics.median(mine / other for mine, other in zip(ours, theirs, strict=False))


HEADINGS: Final = (
    f"{'':<32}{'requests':>9}{'requests/s':>12}{'':<15}{'pairs/s':>9}{'× bare':>8}"
    f"{'at once':>9}{'CPU ms':>8}{'server':>8}{'peak MB':>9}"
)


def print_block(rounds: Rounds, kind: str, latency: float) -> None:
    """Print what one kind of prompt and one latency gave."""
    print(
        f"\n{kind} prompts (template {TEMPLATES[kind]}), latency {latency * 1000:.0f} ms; load {os.getloadavg()[0]:.1f}"
    )
    print(HEADINGS)
    bare = rounds.get(BARE, [])
    expected = {each.prompts for each in bare if each.pairs}
    for contestant, found in rounds.items():
        done = [each for each in found if each.pairs]
        if not done:
            print(f"{contestant.name:<32}failed: {found[-1].fault}")
            continue
        speeds, first = rates(done), done[0]
        middle = statistics.median(speeds)
        spread = f" ({min(speeds):,.0f} to {max(speeds):,.0f})"
        beside = f"{ratio(speeds, rates(bare)):>8.2f}" if rates(bare) else f"{'':>8}"
        work = statistics.median(1000 * each.cpu / each.requests for each in done)
        server = statistics.median(each.server_cpu / each.seconds for each in done)
        print(
            f"{contestant.name:<32}{first.requests:>9,}{middle:>12,.0f}{spread:<15}"
            f"{middle * first.pairs / first.requests:>9,.0f}{beside}{first.most_at_once:>9}{work:>8.2f}{server:>8.0%}"
            f"{max(each.peak for each in done):>9,.0f}"
        )
        for fault in sorted({each.fault for each in done} - {""}):
            print(f"{'':<32}! {fault}")
        if expected and not contestant.alone and {each.prompts for each in done} != expected:
            print(f"{'':<32}! other prompts than the bare pool's")


LEGEND: Final = """
at once: the most requests that the server saw in flight. CPU ms: of all processes of the contestant, for each request.
server: what the server itself took of one core. × bare: median of the rounds' own ratios, in requests/s. "Its own": as
many at once as it likes, one round. umbrela puts another system message before the same text, and judges pairs alone.
"""


def table(bench: Bench, latencies: Sequence[float], kinds: Sequence[str], repeats: int, only: Sequence[str]) -> int:
    """Measure and print everything."""
    names = {BARE: "bare", RELABEL: "relabel"}
    chosen = [each for each in CONTESTANTS if not only or names.get(each, each.peer) in only]
    absent = {each.peer: why for each in chosen if (why := missing(bench, each))}
    takers = [each for each in chosen if each.peer not in absent]
    held = True
    for latency in latencies:
        blocks: dict[str, Rounds] = {}
        for kind in kinds:
            able = [each for each in takers if kind == PAIR or not each.alone]
            blocks[kind] = measure_all(bench, kind, latency, repeats, able)
            print_block(blocks[kind], kind, latency)
        held &= print_demands(blocks, latency)
    print(LEGEND)
    for peer, why in absent.items():
        print(f"{peer} did not take part: {why}")
    return 0 if held else 1


def print_demands(blocks: Mapping[str, Rounds], latency: float) -> bool:
    """Print relabel beside the bare pool and the best peer; whether what is demanded holds, as far as it was measured.

    Pairs/s beside the best peer are two things multiplied: how many requests a second, and how many pairs a request.
    CPU time for each request is the steadiest figure on a busy machine.
    """
    held = True
    print(f"\nlatency {latency * 1000:.0f} ms")
    for kind, rounds in blocks.items():
        ours, bare = rates(rounds.get(RELABEL, [])), rates(rounds.get(BARE, []))
        if ours and bare:
            held &= verdict(f"{kind} prompts: relabel ÷ bare pool, requests/s", ratio(ours, bare), DEMANDS[0])
            thrift = ratio(thrifts(rounds[RELABEL]), thrifts(rounds[BARE]))
            verdict(f"{kind} prompts: relabel ÷ bare pool, requests per second of CPU", thrift, None)
        if ours and (best := best_peer(rounds)):
            verdict(f"{kind} prompts: relabel ÷ {best.name}, pairs/s", ratio(ours, rates(rounds[best])), None)
            thrift = ratio(thrifts(rounds[RELABEL]), thrifts(rounds[best]))
            verdict(f"{kind} prompts: relabel ÷ {best.name}, pairs per second of CPU", thrift, None)
    if {PAIR, GROUP} <= blocks.keys():
        ours = rates(blocks[GROUP].get(RELABEL, []))
        if ours and (best := best_peer(blocks[PAIR])):
            times = ratio(ours, rates(blocks[PAIR][best])) * CANDIDATES
            held &= verdict(f"other prompts: relabel's group ÷ {best.name}'s pair, pairs/s", times, DEMANDS[1])
    return held


def best_peer(rounds: Rounds) -> Contestant | None:
    """Return the peer that asks most a second; None where none did."""
    medians = {each: statistics.median(rates(found)) for each, found in rounds.items() if each.peer and rates(found)}
    return max(medians, key=medians.__getitem__, default=None)


def verdict(name: str, value: float, least: float | None) -> bool:
    """Print a figure beside what is demanded of it."""
    demand = "" if least is None else f"at least {least:<5}{'holds' if value >= least else 'FAILS'}"
    print(f"{name:<84}{value:>7.2f}   {demand}".rstrip())
    return least is None or value >= least


if __name__ == "__main__":
    sys.exit(main())
