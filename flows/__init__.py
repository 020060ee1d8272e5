"""Prefect flows: order and branching only."""
