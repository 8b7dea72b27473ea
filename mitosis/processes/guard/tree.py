"""The process tree below this process: reaping with usage, polite stop, and the kill.

A subreaper whose wait says "no child" has no descendant left, in whatever session. That is the
only proof of an empty tree used here.
"""

import os
import signal
import time

from . import linux

#: Killing child by child loses against a fork bomb; from this round on the tree is stopped first.
FREEZE_FROM_ROUND = 8
_FREEZE_SECONDS = 2.0
_SIGNAL_PASSES = 4


class Tree:
    """What was reaped below this process since the last `reset`, and the means to end the rest."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget usage and counts, before the next task."""
        self.empty = False
        self.reaped = 0
        self.user_seconds = 0.0
        self.system_seconds = 0.0
        self.max_rss_kib = 0

    def reap(self) -> list[tuple[int, int]]:
        """Wait for everything that has ended: pairs of pid and wait status.

        Orphans count too, so a daemon's CPU time is in the figures and no zombie stays.
        """
        ended: list[tuple[int, int]] = []
        self.empty = False
        try:
            while True:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
                if pid == 0:
                    return ended
                if os.WIFSTOPPED(status):
                    linux.let_go(pid, os.WSTOPSIG(status))
                    continue
                ended.append((pid, status))
                self.reaped += 1
                self.user_seconds += usage.ru_utime
                self.system_seconds += usage.ru_stime
                self.max_rss_kib = max(self.max_rss_kib, usage.ru_maxrss)
        except ChildProcessError:
            self.empty = True
            return ended


def signal_tree(number: int) -> None:
    """Send a signal, then SIGCONT, to everything below this process, once to each.

    Walking reaches processes that left the group; the passes reach what was forked meanwhile. A
    signal to the group besides would reach most processes twice, and programs often take a second
    SIGTERM as "at once".
    """
    done: set[int] = set()
    for _ in range(_SIGNAL_PASSES):
        found = list(linux.descendants())
        tree = {os.getpid(), *found}
        fresh = [pid for pid in found if pid not in done]
        if not fresh:
            return
        for pid in fresh:
            if linux.signal_descendant(pid, number, tree) and number != signal.SIGCONT:
                linux.signal_descendant(pid, signal.SIGCONT, tree)
            done.add(pid)


def kill_round(number: int, keep: frozenset[int] = frozenset()) -> bool:
    """One round of the kill; the caller reaps and comes back until nothing is left.

    Returns whether this user may kill none of the own children that are alive.

    Args:
        number: count of the round, from 0.
        keep: own children that must live, with all that is below them.
    """
    if number < FREEZE_FROM_ROUND:
        # Own children that were not waited for: their numbers cannot be reused.
        return _kill_children(keep)
    _freeze(keep)
    refused = _kill_children(keep)
    for pid in linux.descendants(keep):
        linux.kill_process(pid, signal.SIGKILL)
    return refused


def _kill_children(keep: frozenset[int]) -> bool:
    killed = refused = 0
    for pid in linux.children_of(os.getpid()):
        if pid not in keep:
            if linux.kill_process(pid, signal.SIGKILL):
                killed += 1
            elif linux.is_alive(pid):
                refused += 1
    return refused > 0 and killed == 0


def _freeze(keep: frozenset[int]) -> None:
    """Stop the whole tree, until a walk finds nothing new. Nobody may reap meanwhile.

    Each process is stopped before its children are read, so it forks no more and one walk stops
    nearly all; what was handed to this process meanwhile is found by the next walk. The number of
    a listed process cannot go to a stranger in the moment between: numbers are given in turn, and
    a turn is at least 32,768 forks.
    """
    stopped: set[int] = set()
    limit = time.monotonic() + _FREEZE_SECONDS
    fresh = True
    while fresh and time.monotonic() < limit:
        fresh = False
        for pid in linux.descendants(keep):
            if pid not in stopped:
                linux.kill_process(pid, signal.SIGSTOP)
                stopped.add(pid)
                fresh = True
