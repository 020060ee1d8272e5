"""How commands end."""

REFUSED = 1
"""Evidence or a model was refused."""
UNANSWERED = 3
"""A service does not answer; the same command may work later."""
MISSING = 4
"""Something is missing on this machine."""
UNFINISHED = 5
"""The run ended with a part pending or failed."""
INTERRUPTED = 130

EPILOG = """\b
Exit codes: 0 done and verified, 1 refused, 2 wrong command line,
3 a service does not answer, 4 something is missing on this machine,
5 ended with a part pending or failed, 130 interrupted."""
