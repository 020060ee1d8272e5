"""Start, stop and look at a local lab."""

import fcntl
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from vlab.errors import TransientError
from vlab.records import Record
from vlab.services import founding, parts, probes
from vlab.services.layout import Layout
from vlab.services.parts import Service
from vlab.services.registration import register
from vlab.settings import Settings

Progress = Callable[[str], None]

LOCK_DEADLINE_S = 300.0
INTERRUPTED = "the lab was stopped while this run was at work; finish it with: vlab resume"


class ServiceStatus(Record):
    """One service of the lab."""

    name: str
    running: bool
    address: str
    pid: int | None
    log: str


class LabStatus(Record):
    """All services of the lab."""

    home: str
    services: tuple[ServiceStatus, ...]

    @property
    def running(self) -> bool:
        """Whether every service runs."""
        return all(service.running for service in self.services)


def status(settings: Settings) -> LabStatus:
    """Which services run, by asking each of them."""
    layout = Layout.of(settings)
    return _status(layout, [*parts.servers(layout), *parts.workers(layout)])


def up(settings: Settings, *, progress: Progress = lambda _: None) -> LabStatus:
    """Bring the whole lab up; what runs already is left alone.

    Args:
        settings: home of the lab and its ports.
        progress: is told each thing that is done, in a few words.

    Raises:
        RefusedError: a port is taken, or the lab in this home was set up differently.
        TransientError: a service did not start; the message has the end of its log.
    """
    began = time.monotonic()
    with _locked(settings.home, progress):
        for server in parts.servers(Layout.of(settings)):  # before a new lab is tied to its ports
            server.check_port()
        layout = Layout.of(settings, create=True)
        founding.create_account(layout)
        prefect, mlflow, sigstore, chain = servers = parts.servers(layout)
        workers = parts.workers(layout)
        abandoned = prefect.daemon.pid() is None and not any(worker.daemon.pid() for worker in workers)
        if abandoned:  # nothing may go on reporting for runs that are about to be marked as crashed
            _stop(workers)
            shutil.rmtree(layout.leases, ignore_errors=True)
        for server in servers:
            if server.start():
                progress(f"{server.name}: starting at {server.address}")
        watch = partial(_wait, among=servers, progress=progress)
        watch([sigstore, chain])
        profile = founding.write_profile(layout)

        def start_workers() -> None:
            if abandoned:
                probes.free_boards(layout.prefect_url)
                if lost := probes.crash_lost_runs(layout.prefect_url, INTERRUPTED):
                    progress(f"{lost} runs that the last stop interrupted are marked as crashed")
            for worker in workers:
                worker.start()

        register(
            layout,
            founding.prefect_setup(layout, profile),
            wait_for_server=lambda: watch([prefect]),
            on_pools=start_workers,
        )
        watch([mlflow])
        _wait(workers, among=[*servers, *workers], progress=progress)
        progress(f"the lab is up, {time.monotonic() - began:.0f} s: {layout.prefect_url}")
        return _status(layout, [*servers, *workers])


def down(settings: Settings) -> LabStatus:
    """Stop every service, workers first; all state stays, and what was running is marked as crashed."""
    with _locked(settings.home, lambda _: None):
        layout = Layout.of(settings)
        servers, workers = parts.servers(layout), parts.workers(layout)
        _stop(workers)
        if servers[0].running:
            probes.crash_lost_runs(layout.prefect_url, INTERRUPTED)
        _stop(servers)
        return _status(layout, [*servers, *workers])


def _status(layout: Layout, services: Iterable[Service]) -> LabStatus:
    def look(service: Service) -> ServiceStatus:
        return ServiceStatus(
            name=service.name,
            running=service.running,
            address=service.address,
            pid=service.daemon.pid(),
            log=str(service.daemon.log),
        )

    with ThreadPoolExecutor() as pool:
        return LabStatus(home=str(layout.home), services=tuple(pool.map(look, services)))


def _wait(services: Iterable[Service], *, among: Iterable[Service], progress: Progress) -> None:
    """Wait until each of `services` answers.

    Raises:
        TransientError: one took too long, or one `among` all died; the message names it and has the end of its log.
    """
    began = time.monotonic()
    waiting, alive = list(services), list(among)
    while waiting:
        for service in alive:
            if service.daemon.pid() is None:
                raise _failure(service, "ended while starting")
        for service in list(waiting):
            if service.answers():
                waiting.remove(service)
                progress(f"{service.name}: answers at {service.address}")
            elif time.monotonic() - began > service.deadline_s:
                raise _failure(service, f"did not answer within {service.deadline_s:.0f} s")
        time.sleep(0.1)


def _failure(service: Service, what: str) -> TransientError:
    return TransientError(f"{service.name} {what}; the end of {service.daemon.log}:\n{service.daemon.last_words()}")


def _stop(services: Iterable[Service]) -> None:
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda service: service.daemon.stop(service.grace_s), services))


@contextmanager
def _locked(home: Path, progress: Progress) -> Iterator[None]:
    """Only one command at a time changes a lab.

    Raises:
        TransientError: another one holds the lock for too long.
    """
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (home / ".lock").open("w") as lock:
        give_up, told = time.monotonic() + LOCK_DEADLINE_S, False
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > give_up:
                    raise TransientError(
                        f"another command is still changing the lab in {home}; wait for it, or stop it"
                    ) from None
                if not told:
                    progress("another command is changing this lab; waiting for it")
                    told = True
                time.sleep(0.2)
        yield
