"""`python -m vlab` is the `vlab` command."""

from vlab.cli import main

main()
