"""When a task is worth another try."""

from typing import Any

from prefect import State, Task
from prefect.client.schemas import TaskRun

from vlab.errors import TransientError


def transient(_task: Task[..., Any], _run: TaskRun, state: State[Any]) -> bool:
    """Retry what another try can help, never what was refused."""
    try:
        state.result()
    except TransientError:
        return True
    except Exception:  # noqa: BLE001  # whatever else it was, trying again cannot help
        return False
    return False
