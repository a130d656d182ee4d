"""A job in units over the workers of a Ray cluster (``--engine ray``).

Ray Data keeps a worker in each process of a pool and gives it one unit at a time. It restarts a
killed worker, on another node if need be, and gives its unit to the next. A unit that fails, or
that repeatedly loses its process, costs no other unit.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import socket
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from t2ipal.errors import UserError

log = logging.getLogger(__name__)

_ERRORS_IN_A_ROW = 3
"""The job stops after this many consecutive failed units, and two more per worker."""


class _Worker(Protocol):
    """What each process makes once, for instance a pipeline on its GPU."""

    def do(self, unit: Any) -> Any:
        """The result of a unit, both picklable.

        The same unit gives the same result and the same files, because it may be done twice.
        """
        ...


@dataclass(frozen=True)
class _Outcome:
    """A unit's number and its result, or the error that left it without."""

    unit: int
    result: Any
    error: str


@dataclass(frozen=True)
class Cluster:
    """The Ray cluster of ``RAY_ADDRESS`` or, without that, one made of this machine.

    Attributes:
        workers: number of processes; if omitted, the number of the cluster's GPUs or, if there are
            none or none is wanted, of its nodes.
        attempts: number of processes that a unit may kill before it is left out.
    """

    workers: int | None = None
    attempts: int = 4

    def spread(
        self, units: Sequence[Any], make: Callable[[], _Worker], *, gpus: bool
    ) -> Iterator[_Outcome]:
        """Process ``units`` in any order and yield their outcomes; lost units have none.

        Args:
            units: picklable.
            make: picklable; makes the worker of a process when its first unit arrives.
            gpus: give each worker a GPU, if the cluster has any.

        Raises:
            UserError: Ray is missing, its cluster cannot be reached, or it gave up.
        """
        with _connected() as ray:
            resources = ray.cluster_resources()
            gpus = gpus and resources.get("GPU", 0) >= 1
            nodes = sum(node["Alive"] for node in ray.nodes())
            workers = self.workers or (int(resources["GPU"]) if gpus else nodes)
            threads = None if gpus else _threads()
            log.info("%d units for %d workers on %d nodes", len(units), workers, nodes)
            rows = [{"unit": n, "work": pickle.dumps(unit)} for n, unit in enumerate(units)]
            # One block per unit: Ray schedules, and retries, whole blocks.
            begun = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(_Attempts).remote()
            done = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
                _Process,
                fn_constructor_args=(make, os.getcwd(), threads, begun, self.attempts),
                concurrency=workers,
                num_cpus=1,
                num_gpus=1 if gpus else 0,
            )
            errors = 0
            try:
                for row in done.iter_rows():
                    outcome = _Outcome(row["unit"], pickle.loads(row["result"]), row["error"])
                    yield outcome
                    errors = errors + 1 if outcome.error else 0
                    if errors >= _ERRORS_IN_A_ROW + 2 * workers:
                        return
            except ray.exceptions.RayError as error:
                *_, last = (type(error).__name__, *str(error).strip().splitlines())
                raise UserError(
                    f"Ray gave up ({last.strip()}); what is finished is kept: fix this and run the "
                    "command again."
                ) from error


def choose_engine(
    engine: Literal["local", "ray"], workers: int | None, shard: str | None = None
) -> Cluster | None:
    """The cluster that ``--engine`` and ``--workers`` ask for; None for this process alone.

    Raises:
        UserError: options that exclude each other.
    """
    if engine == "local":
        if workers is not None:
            raise UserError("--workers is for --engine ray; several processes share a --shard I/N.")
        return None
    if shard is not None:
        raise UserError("--shard and --engine ray exclude each other: Ray shares the work out.")
    return Cluster(workers)


def missing_of(what: str, missing: int, total: int, errors: Sequence[str]) -> UserError:
    """The error of a run that ends with ``missing`` of ``total`` items not done."""
    why = errors[0] if errors else "their workers were lost"
    more = f" ({len(errors)} such errors)" if len(errors) > 1 else ""
    return UserError(
        f"{missing} of {total} {what} are missing: {why.rstrip('.')}{more}. All others are kept: "
        "fix this and run the command again."
    )


class _Attempts:
    """Counts the attempts at each unit, outside the processes that may die of it."""

    def __init__(self) -> None:
        self._begun = Counter[int]()

    def begin(self, unit: int) -> int:
        self._begun[unit] += 1
        return self._begun[unit]


class _Process:
    """What Ray keeps in a process: the worker, made with the first unit."""

    def __init__(
        self, make: Callable[[], _Worker], home: str, threads: int | None, attempts: Any, most: int
    ) -> None:
        self._make = make
        self._home = home
        self._threads = threads
        self._attempts = attempts
        self._most = most
        self._worker: _Worker | None = None

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        result, error = None, ""
        try:
            self._begin(row["unit"])
            if self._worker is None:
                self._worker = self._start()
            result = self._worker.do(pickle.loads(row["work"]))
        except UserError as mistake:
            error = str(mistake)
        except Exception as failure:
            traceback.print_exc()  # into Ray's log of this process
            error = f"{type(failure).__name__} on {socket.gethostname()}: {failure}"
        return {"unit": row["unit"], "result": pickle.dumps(result), "error": error}

    def _begin(self, unit: int) -> None:
        """Count the attempt, since Ray itself would retry for ever."""
        import ray

        if ray.get(self._attempts.begin.remote(unit)) > self._most:
            raise UserError(
                f"workers died of the same work {self._most} times, perhaps for lack of memory; "
                "see Ray's logs under /tmp/ray"
            )

    def _start(self) -> _Worker:
        with contextlib.suppress(OSError):  # then paths are wrong, and the worker says so
            os.chdir(self._home)
        if self._threads is not None:
            os.environ["OMP_NUM_THREADS"] = str(self._threads)  # read when torch is loaded
            if "torch" in sys.modules:
                sys.modules["torch"].set_num_threads(self._threads)
        return self._make()


def _threads() -> int:
    """This process's threads, for the workers: another number may change a sum's last bits."""
    import torch

    return torch.get_num_threads()


@contextmanager
def _connected() -> Iterator[Any]:
    """Ray, connected and quiet; a connection made here is closed again."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", "1")  # attempts to connect, 40 s each
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise UserError(
            f"--engine ray needs Ray ({error}); run: pip install 'ray[data]'"
        ) from error
    ours = not ray.is_initialized()
    if ours:
        try:
            with _hushed():
                ray.init(
                    # Not Ray's own choice: it waits for the last cluster, which may be gone.
                    address=None if os.environ.get("RAY_ADDRESS") else "local",
                    include_dashboard=False,
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                )
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise UserError(
                f"the Ray cluster cannot be reached ({str(error).splitlines()[0]}); check "
                "RAY_ADDRESS (and RAY_AUTH_MODE=token, if it asks for a token), or unset it to use "
                "this machine alone."
            ) from error
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.max_errored_blocks = -1  # a lost unit is left to the next run, the others continue
    context.max_consecutive_actor_init_deaths = 4  # a process may be killed while it starts
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    try:
        yield ray
    finally:
        if ours:
            ray.shutdown()


@contextmanager
def _hushed() -> Iterator[None]:
    """Without the messages of Ray's C++ on standard error; its Python side raises what matters."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
