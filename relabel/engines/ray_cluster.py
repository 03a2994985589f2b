"""The Ray cluster of a run: reached when something is first asked there, left when the run ends."""

import logging
import math
import os
import threading
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from relabel import config
from relabel.engines.vllm_loading import QUIET, aside, built_for_cpu
from relabel.errors import MissingPart, ServiceError, SettingsError

WAIT: Final = 30.0
"""Seconds within which the head of a cluster must answer."""

ENVIRONMENT: Final = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_AUTO_CONNECT": "0",
    "RAY_worker_maximum_startup_concurrency": "16",
}
"""Environment that we set where the user has not: no statistics to Ray's makers; no cluster that Ray starts by itself
when a thread of its own comes too late; no warning that a small machine starts many workers."""

PATIENCE: Final = 5.0
"""Seconds in which the processes of a local cluster may end by themselves."""


@dataclass(frozen=True, slots=True)
class Need:
    """What the model of one stage takes of a cluster: replicas, GPUs of each, and whether vLLM runs it."""

    stage: str
    replicas: int
    gpus: float
    vllm: bool = False

    def __str__(self) -> str:
        return f"{self.stage}: {self.replicas} × {self.gpus:g}"


class Cluster:
    """A connection to Ray; several stages, each in a thread of its own, share it.

    Args:
        settings: where it is.
        needs: what the stages take of it, all at the same time.
        log: where Ray's words to this process's stderr go while the connection is open.

    Raises:
        MissingPart: Ray is not installed.
        SettingsError: the address is of a kind that cannot be used.
    """

    def __init__(self, settings: config.Ray, needs: Sequence[Need], log: Path) -> None:
        for name, value in ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        try:
            import ray.data  # noqa: F401 - whether it is there
        except ImportError as error:
            raise MissingPart("ray", "ray") from error
        if settings.address.startswith("ray://"):
            raise SettingsError(
                f"Ray Data does not run through a client connection ({settings.address})",
                hint="type relabel on a node of the cluster, with --address auto; or make this machine one:"
                " ray start --address=HOST:6379",
            )
        self.settings = settings
        self._needs, self._log = needs, log
        self._quiet = ExitStack()
        self._keeper: threading.Thread | None = None
        self._ready, self._leave = threading.Event(), threading.Event()
        self._problem: BaseException | None = None
        self._lock = threading.Lock()
        self._session: Path | None = None
        self._checked = False

    def open(self) -> None:
        """Connect, once; a process that is connected already stays so, and stays so afterwards.

        Raises:
            ServiceError: nothing answers at the address.
            SettingsError: the cluster has less than the stages need.
        """
        import ray

        with self._lock:
            if self._checked:
                return
            if self._problem is not None:
                raise self._problem
            self._quiet.enter_context(aside(self._log, 2))
            if not ray.is_initialized():
                self._keeper = threading.Thread(target=self._keep, name="relabel-ray-cluster", daemon=True)
                self._keeper.start()
                self._ready.wait()
            if self._problem is not None:
                raise self._problem
            self.check()
            self._checked = True

    def close(self) -> None:
        """Leave the cluster, if it was this run that came to it; a local one ends, with all its processes."""
        with self._lock:
            self._leave.set()
            if self._keeper is not None:
                self._keeper.join()
            self._quiet.close()

    def check(self) -> None:
        """Refuse a cluster on which a model would wait for its place for ever.

        Raises:
            SettingsError: it has less than the stages need.
            ServiceError: it does not answer any more.
        """
        import ray

        try:
            there: dict[str, float] = ray.cluster_resources()
        except Exception as error:
            raise ServiceError("the Ray cluster does not answer any more", hint="see `ray status`") from error
        for resource, name, asked in (
            ("GPU", "GPUs", sum(need.replicas * need.gpus for need in self._needs)),
            ("CPU", "CPU cores", sum(need.replicas for need in self._needs if not need.gpus)),
        ):
            if there.get(resource, 0) < asked:
                each = ", ".join(str(need) for need in self._needs if bool(need.gpus) == (resource == "GPU"))
                raise SettingsError(
                    f"the Ray cluster has {there.get(resource, 0):g} {name}, and the models need {asked:g} ({each})",
                    hint=self._more(resource, asked),
                )

    def can_go_on(self) -> bool:
        """Whether what is left of the cluster can run one replica of every model."""
        import ray

        with suppress(Exception):
            left = ray.cluster_resources()
            return bool(left.get("GPU", 0) >= sum(need.gpus for need in self._needs) and left.get("CPU", 0) > 0)
        return False

    @property
    def here(self) -> str:
        """The node that this process is on."""
        import ray

        return str(ray.get_runtime_context().get_node_id())

    def told(self) -> dict[str, Any]:
        """Return what the cluster is, as plain JSON."""
        import ray

        nodes = [node for node in ray.nodes() if node["Alive"]] if ray.is_initialized() else []
        return {"ray": ray.__version__, "address": self.settings.address, "nodes": len(nodes)}

    def log_of(self, process: int) -> Path | None:
        """Return the file with the words of a worker process, if it ran on this machine."""
        if self._session is None:
            return None
        return next(iter(sorted((self._session / "logs").glob(f"worker-*-{process}.err"))), None)

    def _keep(self) -> None:
        """Connect, and disconnect in the end: in one thread, as Linux ends a local cluster with the one that began it.

        Ray waits for few of a local cluster's processes to end, so that is done here.
        """
        import psutil  # comes with Ray
        import ray

        others = set(psutil.Process().children())
        try:
            self._connect()
        except BaseException as error:  # noqa: BLE001 - raised again by whoever waits
            self._problem = error
            return
        finally:
            self._ready.set()
        self._leave.wait()
        mine: list[Any] = []
        if self.settings.address == "local":
            mine += [child for child in set(psutil.Process().children()) - others if _is_rays(child)]
            for process in list(mine):
                with suppress(psutil.NoSuchProcess):
                    mine += process.children(recursive=True)
        ray.shutdown()
        for process in psutil.wait_procs(mine, timeout=PATIENCE)[1]:
            with suppress(psutil.NoSuchProcess):
                process.kill()

    def _connect(self) -> None:
        import ray

        address = self.settings.address
        local = {"num_gpus": self._logical(), "include_dashboard": False} if address == "local" else {}
        if address not in ("local", "auto"):
            _check_port(address)
        try:
            context: Any = ray.init(
                address=address,
                log_to_driver=False,
                logging_level=logging.ERROR,
                runtime_env={"env_vars": dict(QUIET)},
                **local,
            )
        except (ConnectionError, TimeoutError, RuntimeError, ValueError, OSError) as error:
            raise _unreachable(address, str(error)) from error
        with suppress(AttributeError, KeyError, TypeError):
            self._session = Path(context.address_info["session_dir"])

    def _logical(self) -> int | None:
        """Return how many GPUs a cluster of our own shall declare; None = those that are there."""
        return math.ceil(sum(need.replicas * need.gpus for need in self._needs)) if self._on_cpu() else None

    def _on_cpu(self) -> bool:
        """Whether GPUs are only a name: Ray's vLLM stage wants one, and this is vLLM's build for the CPU."""
        if not any(need.vllm for need in self._needs):
            return False
        return built_for_cpu()

    def _more(self, resource: str, asked: float) -> str:
        if resource == "CPU":
            return "lower --replicas, or add nodes: ray start --address=HOST:6379"
        if self._on_cpu():
            return (
                "this is vLLM's build for the CPU, for which a GPU is only a name; declare it on the nodes:"
                f" ray start --num-gpus {math.ceil(asked)} …"
            )
        return (
            "lower --replicas, or add nodes with GPUs: ray start --address=HOST:6379; `ray status` shows what is there"
        )


def _is_rays(process: Any) -> bool:
    """Whether a child of this process is one of Ray's own, and no pool or command of the user's."""
    try:
        line = " ".join(process.cmdline())
    except Exception:  # noqa: BLE001 - it has ended
        return False
    return "/ray/" in line or "ray::" in line or "raylet" in line


def _check_port(address: str) -> None:
    """Refuse an address at which nothing listens: Ray itself would try for minutes."""
    import socket

    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise SettingsError(
            f"--address {address!r} is no address", hint="local, auto, or HOST:PORT (Ray's port is 6379)"
        )
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=WAIT):
            pass
    except OSError as error:
        raise _unreachable(address, str(error)) from error


def _unreachable(address: str, words: str) -> ServiceError:
    where = "on this machine" if address == "auto" else f"at {address}"
    hint = (
        "see the cause; --engine here runs the models in this process"
        if address == "local"
        else "start one: ray start --head; or let the run start its own: --address local"
    )
    line = " ".join(words.split())[:200]
    problem = "no Ray cluster could be started" if address == "local" else f"no Ray cluster answers {where}"
    return ServiceError(f"{problem}: {line}", hint=hint)
