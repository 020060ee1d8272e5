"""A whole local lab in one directory: Prefect, MLflow, Sigstore instance, chain, ledger, and a worker for each partner.

    status = up(Settings.from_environment(), progress=print)
    ...
    down(Settings.from_environment())

Everything is detached from the command that starts it, listens on loopback only, and keeps its state below `settings.home`, so
that a lab that was killed or rebooted comes back with the same addresses, keys, chain and history.

Modules: `layout` (paths, ports, boards), `daemons` (detached processes), `probes` (does it answer), `parts` (the services),
`founding` (keys, contract, profile, partners' directories), `registration` (Prefect's side), `lab` (up, down, status).
"""

from vlab.services.lab import LabStatus, ServiceStatus, down, status, up

__all__ = ["LabStatus", "ServiceStatus", "down", "status", "up"]
