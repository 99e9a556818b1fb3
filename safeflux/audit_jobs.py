"""Attacks on one model side by side, each in a process of its own.

What one attack draws does not depend on another, and lies in the store when it is drawn: so other processes fill the store, and the audit
goes on as if an earlier one had. Each process holds the model once more. Where there are several graphics cards they take turns.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safeflux.audit_drawing import Round, draw
from safeflux.audit_instruments import open_bench
from safeflux.audit_store import Drawings
from safeflux.errors import StageError
from safeflux.policy import Choice, Policy
from safeflux.types import AuditTask, Progress, Which

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.sharedctypes import Synchronized

    from safeflux.models.flux1 import Flux1

_EVERY = 0.1  # seconds between two looks at what the processes say
_LOGGER = "safeflux"

Message = logging.LogRecord | tuple[str, int, int]  # of a log, or how far an attack has come


@dataclass(frozen=True)
class Given:
    """What every process is given; all of it can be pickled, once the task has lost what says how far it has come."""

    which: Which
    load: Callable[[], Flux1]
    policy: Policy
    task: AuditTask
    store: Path
    keys: Mapping[tuple[Which, str], str]


def spread(jobs: int, given: Given, attacks: Sequence[Choice]) -> dict[str, str]:
    """Run ``attacks``, of which nothing is kept whole yet, ``jobs`` at a time; returns why, for each that broke.

    Raises StageError where a process dies; what was drawn is kept. When interrupted, no process stays behind.
    """
    context, progress = multiprocessing.get_context("spawn"), given.task.progress
    jobs, others = min(jobs, len(attacks)), set(multiprocessing.active_children())
    messages: SimpleQueue[Message] = context.SimpleQueue()
    plain = replace(given, task=replace(given.task, progress=None, shows=None))
    level = logging.getLogger(_LOGGER).getEffectiveLevel()
    pool = ProcessPoolExecutor(jobs, context, _begin, (plain, messages, context.Value("i", 0), jobs, level))
    try:
        return _watched([pool.submit(_drawn, attack) for attack in attacks], messages, progress)
    except BrokenProcessPool as error:
        raise StageError(
            f"a process that attacked the {given.which} model died, perhaps for want of memory: each of {jobs} held the model. "
            "What was drawn is kept; go on with fewer at a time"
        ) from error
    except BaseException:
        for process in set(multiprocessing.active_children()) - others:
            process.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _watched(futures: Sequence[Future[dict[str, str]]], messages: SimpleQueue[Message], progress: Progress | None) -> dict[str, str]:
    """What the futures come to; until then, whatever the processes say is passed on."""
    pending = set(futures)
    while pending:
        _, pending = wait(pending, _EVERY, FIRST_COMPLETED)
        while not messages.empty():
            message = messages.get()
            if isinstance(message, logging.LogRecord):
                logging.getLogger(message.name).handle(message)
            elif progress is not None:
                progress(*message)
    return {name: reason for future in futures for name, reason in future.result().items()}


class _Sender(logging.Handler):
    """Tells the process that waits for this one what is logged here, all of it as text."""

    def __init__(self, messages: SimpleQueue[Message]) -> None:
        super().__init__()
        self._messages = messages

    def emit(self, record: logging.LogRecord) -> None:
        record.msg, record.args, record.exc_info, record.exc_text = self.format(record), None, None, None
        self._messages.put(record)


_ours: list[tuple[Round, Callable[[], Flux1]]] = []  # in a process: what it draws for, and the model, loaded when first needed


def _begin(given: Given, messages: SimpleQueue[Message], begun: Synchronized[int], jobs: int, level: int) -> None:
    """In a process, before its first attack."""
    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the one who waits for us ends us
    threading.Thread(target=_end_with_parent, daemon=True).start()
    logger = logging.getLogger(_LOGGER)
    logger.handlers, logger.propagate = [_Sender(messages)], False
    logger.setLevel(level)
    torch.set_num_threads(max(1, torch.get_num_threads() // jobs))
    with begun.get_lock():
        number, begun.value = begun.value, begun.value + 1
    if torch.cuda.is_available():
        torch.cuda.set_device(number % torch.cuda.device_count())
    task = replace(given.task, progress=lambda *said: messages.put(said))
    drawings = Drawings(given.store)
    _ours.append((Round.of(given.which, given.policy, open_bench(given.policy), task, drawings, given.keys), _once(given.load)))


def _drawn(attack: Choice) -> dict[str, str]:
    ((round_, load),) = _ours
    return draw(round_, load, [attack])


def _once(load: Callable[[], Flux1]) -> Callable[[], Flux1]:
    held: list[Flux1] = []

    def loaded() -> Flux1:
        if not held:
            held.append(load())
        return held[0]

    return loaded


def _end_with_parent() -> None:
    """A process whose parent was killed must not go on writing where the next one works."""
    parent: Any = multiprocessing.parent_process()
    parent.join()
    os._exit(1)
