"""Make a lab known to its Prefect server: pools, limits, the lost-run automation, blocks.

    python -m blocks.register SETUP.json        # in the checkout, with PREFECT_API_URL set

Run by `vlab up` in a process of its own, because the library does not import Prefect. It waits for the server. Everything is
created or brought up to date, so running it again is harmless. It prints one line, `pools`, as soon as workers may start: a
worker that comes before its pool would find none.
"""

import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate, WorkPoolCreate, WorkPoolUpdate
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
from prefect.workers.process import ProcessWorker
from pydantic import BaseModel

from blocks.board import Board
from blocks.chain_account import ChainAccount
from blocks.signer import Signer
from blocks.tracking import Tracking

ALIVE = "prefect.flow-run.heartbeat"
ENDED = {f"prefect.flow-run.{state}" for state in ("Completed", "Failed", "Cancelled", "Crashed")}

CRASH_LOST_RUNS = AutomationCore(
    name="crash-lost-runs",
    description="A run whose machine went away sends no heartbeat; without this it would stay Running for ever.",
    trigger=EventTrigger(
        posture=Posture.Proactive,  # fires when the expected event does not come
        after={ALIVE},
        expect={ALIVE} | ENDED,
        threshold=1,
        within=timedelta(seconds=90),  # three heartbeats of 30 s
        match={"prefect.resource.id": ["prefect.flow-run.*"]},
        for_each={"prefect.resource.id"},
    ),
    actions=[
        ChangeFlowRunState(
            name="Crashed",
            state=StateType.CRASHED,
            message="no heartbeat for 90 s: the worker or its machine is gone",
            force=False,
        )
    ],
)


class Setup(BaseModel):
    """What a lab has, as `vlab up` writes it down."""

    pools: dict[str, str]
    """Working directory, the checkout, of each process pool."""
    limits: dict[str, int]
    """Global concurrency limits: one for each board."""
    tracking: dict[str, Tracking]
    signers: dict[str, Signer]
    chain_accounts: dict[str, ChainAccount]
    boards: dict[str, Board]


def create_pool(client: SyncPrefectClient, name: str, working_dir: str) -> None:
    """A process pool whose runs start in the checkout, with heartbeats that the automation can rely on."""
    template: dict[str, Any] = ProcessWorker.get_default_base_job_template()
    template["variables"]["properties"]["working_dir"]["default"] = working_dir
    template["variables"]["properties"]["env"]["default"] = {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30"}
    try:
        client.create_work_pool(WorkPoolCreate(name=name, type="process", base_job_template=template))
    except ObjectAlreadyExists:
        client.update_work_pool(name, WorkPoolUpdate(base_job_template=template))


def create_limit(client: SyncPrefectClient, name: str, limit: int) -> None:
    """A limit that is there already keeps its slots, taken or free."""
    try:
        client.read_global_concurrency_limit_by_name(name)
    except ObjectNotFound:
        client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=name, limit=limit))


def wait_for(client: SyncPrefectClient) -> None:
    """Wait until the server answers; the caller sets the deadline by ending this process."""
    while client.api_healthcheck() is not None:
        time.sleep(0.1)


def register(setup: Setup) -> None:
    """Bring the server that PREFECT_API_URL names up to date."""
    with get_client(sync_client=True) as client:
        wait_for(client)
        for name, working_dir in setup.pools.items():
            create_pool(client, name, working_dir)
        print("pools", flush=True)
        for name, limit in setup.limits.items():
            create_limit(client, name, limit)
        if not client.read_automations_by_name(CRASH_LOST_RUNS.name):
            client.create_automation(CRASH_LOST_RUNS)
    for documents in (setup.tracking, setup.signers, setup.chain_accounts, setup.boards):
        for name, block in documents.items():
            block.save(name, overwrite=True)


if __name__ == "__main__":
    register(Setup.model_validate_json(Path(sys.argv[1]).read_bytes()))
