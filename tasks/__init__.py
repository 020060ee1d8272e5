"""Prefect tasks, one file a verb: retries, logging, block to plain argument; the work is done by `vlab`."""
