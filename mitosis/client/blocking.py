"""The client for programs without an event loop: the same object, driven by a thread."""

import asyncio
import functools
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import wait
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from mitosis.client.documented import MitoClient
from mitosis.config.client import ClientConfig

SIGNALS_SECONDS = 0.1  # how late a Ctrl-C may be that another thread took

P = ParamSpec("P")
T = TypeVar("T")


def _blocking(
    method: Callable[Concatenate[MitoClient, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate["SyncMitoClient", P], T]:
    def call(self: "SyncMitoClient", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._run(method(self._client, *args, **kwargs))

    functools.update_wrapper(call, method)
    return call


def _iterating(
    method: Callable[Concatenate[MitoClient, P], AsyncIterator[T]],
) -> Callable[Concatenate["SyncMitoClient", P], Iterator[T]]:
    def call(self: "SyncMitoClient", /, *args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        items = method(self._client, *args, **kwargs)
        try:
            while True:
                try:
                    item = self._run(_next(items))
                except StopAsyncIteration:
                    return
                yield item
        finally:
            self._run(_end(items))

    functools.update_wrapper(call, method)
    return call


class SyncMitoClient:
    """`MitoClient` with methods that block. Usable from any thread.

    Example:
        with SyncMitoClient(ClientConfig.load()) as client:
            submitted = client.submit_task(SubmitTaskArgs(command=("true",)))
            (task,) = client.wait_for_tasks([submitted])
            print(task.outcome)
    """

    def __init__(self, config: ClientConfig | None = None) -> None:
        """Start the thread; nothing is connected before `connect` or the first call."""
        self._client = MitoClient(config)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="mitosis-client", daemon=True
        )
        self._thread.start()

    def __enter__(self) -> Self:
        try:
            self.connect()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Disconnect and end the thread; may be called twice."""
        if self._loop.is_closed():
            return
        try:
            self._run(self._client.close())
            self._run(self._loop.shutdown_default_executor())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def run(self, action: Callable[[MitoClient], Coroutine[Any, Any, T]]) -> T:
        """Run a coroutine function with the client, for what none of the methods here does."""
        return self._run(action(self._client))

    connect = _blocking(MitoClient.connect)
    login = _blocking(MitoClient.login)
    logout = _blocking(MitoClient.logout)
    whoami = _blocking(MitoClient.whoami)
    get_nats_access = _blocking(MitoClient.get_nats_access)
    watch_overview = _iterating(MitoClient.watch_overview)
    get_overview = _blocking(MitoClient.get_overview)
    create_user = _blocking(MitoClient.create_user)
    change_password = _blocking(MitoClient.change_password)
    reset_password = _blocking(MitoClient.reset_password)
    get_users = _blocking(MitoClient.get_users)
    set_user_state = _blocking(MitoClient.set_user_state)
    set_admin = _blocking(MitoClient.set_admin)
    set_group_quota = _blocking(MitoClient.set_group_quota)
    get_sessions = _blocking(MitoClient.get_sessions)
    revoke_sessions = _blocking(MitoClient.revoke_sessions)
    create_group = _blocking(MitoClient.create_group)
    get_group = _blocking(MitoClient.get_group)
    get_groups = _blocking(MitoClient.get_groups)
    change_members = _blocking(MitoClient.change_members)
    set_storage_quota = _blocking(MitoClient.set_storage_quota)
    set_group_state = _blocking(MitoClient.set_group_state)
    submit_task = _blocking(MitoClient.submit_task)
    submit_many = _blocking(MitoClient.submit_many)
    get_task = _blocking(MitoClient.get_task)
    get_tasks = _blocking(MitoClient.get_tasks)
    explain_task = _blocking(MitoClient.explain_task)
    compare_tasks = _blocking(MitoClient.compare_tasks)
    rerun_tasks = _blocking(MitoClient.rerun_tasks)
    select_for_rerun = _blocking(MitoClient.select_for_rerun)
    cancel_task = _blocking(MitoClient.cancel_task)
    update_task_labels = _blocking(MitoClient.update_task_labels)
    change_task = _blocking(MitoClient.change_task)
    erase_secrets = _blocking(MitoClient.erase_secrets)
    watch = _iterating(MitoClient.watch)
    watch_states = _iterating(MitoClient.watch_states)
    watch_changes = _iterating(MitoClient.watch_changes)
    follow = _iterating(MitoClient.follow)
    get_execution_state = _blocking(MitoClient.get_execution_state)
    wait_for_tasks = _blocking(MitoClient.wait_for_tasks)
    get_artifact = _blocking(MitoClient.get_artifact)
    get_artifact_link = _blocking(MitoClient.get_artifact_link)
    upload_artifact = _blocking(MitoClient.upload_artifact)
    delete_artifact = _blocking(MitoClient.delete_artifact)
    upload_attachment = _blocking(MitoClient.upload_attachment)
    get_attachment = _blocking(MitoClient.get_attachment)
    get_attachment_link = _blocking(MitoClient.get_attachment_link)
    get_attachment_meta = _blocking(MitoClient.get_attachment_meta)
    get_attachments = _blocking(MitoClient.get_attachments)
    each_attachment = _iterating(MitoClient.each_attachment)
    get_events = _blocking(MitoClient.get_events)
    each_event = _iterating(MitoClient.each_event)
    worker_runs = _iterating(MitoClient.worker_runs)
    readers = _iterating(MitoClient.readers)
    last_events = _blocking(MitoClient.last_events)
    history = _iterating(MitoClient.history)
    watch_events = _iterating(MitoClient.watch_events)
    delete_attachment = _blocking(MitoClient.delete_attachment)
    get_worker = _blocking(MitoClient.get_worker)
    get_workers = _blocking(MitoClient.get_workers)
    cancel_worker = _blocking(MitoClient.cancel_worker)
    update_worker_tags = _blocking(MitoClient.update_worker_tags)
    update_worker_labels = _blocking(MitoClient.update_worker_labels)
    update_worker_roles = _blocking(MitoClient.update_worker_roles)
    remove_worker_roles = _blocking(MitoClient.remove_worker_roles)
    update_worker_slots = _blocking(MitoClient.update_worker_slots)
    pause_worker = _blocking(MitoClient.pause_worker)
    resume_worker = _blocking(MitoClient.resume_worker)
    shutdown = _blocking(MitoClient.shutdown)

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        if self._loop.is_closed():
            work.close()
            raise RuntimeError("the client is closed")
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            while not future.done():
                wait((future,), _signals_seconds())
            return future.result()
        except BaseException:
            future.cancel()
            raise


def _signals_seconds() -> float | None:
    """How long to wait at most until signals are looked for; None: this thread handles none.

    Another thread may have taken a Ctrl-C, and that wakes nobody. The thread of the client does not
    block signals for that: programs that actions and callbacks start there would block them too.
    """
    return SIGNALS_SECONDS if threading.current_thread() is threading.main_thread() else None


async def _next(items: AsyncIterator[T]) -> T:
    return await anext(items)


async def _end(items: AsyncIterator[Any]) -> None:
    close = getattr(items, "aclose", None)
    if close is not None:
        await close()
