"""Prefect blocks: stored addresses. Every worker can read every block, so a secret stays in a file and a block says where."""
