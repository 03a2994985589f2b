"""What all contestants share: reading the requests, and one line of JSON about what a job took.

It is imported by the Python of each peer, so it needs nothing but the standard library.
"""

import json
import resource
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

Messages = list[dict[str, str]]


def prompts(path: Path) -> Iterator[Messages]:
    """Yield the messages of each request in a file of JSON lines."""
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)["messages"]


def measured(job: Callable[[], int], **told: Any) -> None:
    """Do a job and print its time, which holds no import, its CPU time and peak memory, and the answers it returns."""
    before = _cpu()
    started = time.perf_counter()
    answers = job()
    seconds = time.perf_counter() - started
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    unit = 2**20 if sys.platform == "darwin" else 2**10
    found = {"seconds": seconds, "cpu": _cpu() - before, "peak": peak / unit, "answers": answers, **told}
    print(json.dumps(found), flush=True)


def _cpu() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)
