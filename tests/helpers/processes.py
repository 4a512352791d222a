"""Functions in processes of their own, forked from one that has imported everything: each starts at once."""

import multiprocessing
import os
import signal
import socket
import sys
import warnings
from multiprocessing.process import BaseProcess

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["accelerate", "fdae_diffusers.training", "helpers.training"])


def start(function, *arguments, **environment: str) -> BaseProcess:
    """Start a function of a test module in a new process, with additions to its environment.

    As a script does, it exits with the status that `run_script` gives an error, or 0.
    """
    process = CONTEXT.Process(target=_run, args=(environment, function, *arguments))
    process.start()
    return process


def start_together(function, *arguments, num_processes: int = 2, **environment: str) -> list[BaseProcess]:
    """Start processes that accelerate finds to belong together, as `torchrun` does."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1", **environment}
    common |= {"WORLD_SIZE": str(num_processes), "LOCAL_WORLD_SIZE": str(num_processes)}
    return [
        start(function, *arguments, **common, RANK=str(rank), LOCAL_RANK=str(rank)) for rank in range(num_processes)
    ]


def end(processes: list[BaseProcess], timeout: float = 120) -> list[int | None]:
    """Wait for processes and return their exit statuses; what is still there after the timeout is killed."""
    for process in processes:
        process.join(timeout)
        if process.is_alive():
            process.kill()
            process.join()
    return [process.exitcode for process in processes]


def _run(environment, function, *arguments) -> None:
    from fdae_diffusers.utils.arguments import run_script

    signal.signal(signal.SIGINT, signal.default_int_handler)  # which the server that forks ignores
    os.environ.update(environment)
    warnings.simplefilter("ignore")
    import torch

    torch.set_num_threads(1)
    run_script(lambda: function(*arguments))
    sys.stdout.flush()
