"""Several processes of one group on this machine, as torchrun would start them."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing

from util.process.distributed import Group, process_group

# A server process imports torch once; each test process is forked from it.
START_METHOD = "forkserver"
PRELOADED = ["torch", "torchvision", "experiment.train.run", "experiment.imagenet.main"]


def environment_of(rank: int, world_size: int, port: int) -> dict[str, str]:
    """What torchrun sets for a process whose agent keeps the store."""
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(world_size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
    }


def store_server() -> dist.TCPStore:
    """The store of an agent, on a free port."""
    return dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)


def run_processes(
    work: Callable[..., Any], world_size: int, *arguments: Any, joined: bool = True
) -> list[Any]:
    """`work(group, *arguments)` in every process; its results (plain types, arrays) by rank.

    `work` is a function of a module; it joins the group itself if not `joined`, and then takes
    its arguments alone. Raises torch.multiprocessing.ProcessRaisedException with the traceback if
    it raises anywhere, ProcessExitedException for an exit code that is not 0.
    """
    multiprocessing.set_forkserver_preload(PRELOADED)
    server = store_server()
    queue = multiprocessing.get_context(START_METHOD).Queue()
    start = torch.multiprocessing.start_processes
    given = (world_size, server.port, queue, work, arguments, joined)
    context = start(_start, given, world_size, join=False, start_method=START_METHOD)
    results: dict[int, Any] = {}
    while not context.join(timeout=0.05):
        _collect(queue, results)
    while len(results) < world_size:
        _collect(queue, results)
    return [results[rank] for rank in range(world_size)]


def start_processes(
    work: Callable[..., Any], world_size: int, *arguments: Any
) -> tuple[list[BaseProcess], dist.TCPStore]:
    """`work(*arguments)` in processes that the caller watches, and ends with `end_processes`.

    The store that they meet in is returned too: it has to outlive them.
    """
    multiprocessing.set_forkserver_preload(PRELOADED)
    server = store_server()
    given = (world_size, server.port, None, work, arguments, False)
    process = multiprocessing.get_context(START_METHOD).Process
    processes = [process(target=_start, args=(rank, *given)) for rank in range(world_size)]
    for process in processes:
        process.start()
    return processes, server


def end_processes(processes: list[BaseProcess]) -> None:
    """Kill those that still run, stopped ones too."""
    for process in processes:
        process.kill()
        process.join()


def wait_for(condition: Callable[[], Any], seconds: float) -> Any:
    """The first true value of `condition()`; TimeoutError if there is none in time."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds} seconds in vain")
        time.sleep(0.02)
    return value


def _collect(queue: Any, results: dict[int, Any]) -> None:
    """Take what is there: a process does not end before its result is taken."""
    while not queue.empty():
        rank, result = queue.get()
        results[rank] = result


def _start(
    rank: int,
    world_size: int,
    port: int,
    queue: Any,
    work: Callable[..., Any],
    arguments: tuple,
    joined: bool,
) -> None:
    os.environ.update(environment_of(rank, world_size, port))
    torch.set_num_threads(1)
    if joined:
        with process_group("cpu", timeout_minutes=1) as group:
            result = work(group, *arguments)
    else:
        result = work(*arguments)
    if queue is not None:
        queue.put((rank, result))


def place_of(group: Group) -> tuple[int, int]:
    """(rank, world size), for a test that only asks who is there."""
    group.wait_for_all()  # who leaves at once closes connections that others still open
    return group.rank, group.world_size
