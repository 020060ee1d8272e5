"""What other libraries' exceptions say, in one line without their frames."""

import re

_FRAME = re.compile(
    r"^(File |Traceback|\[bt\]|\d+: |\[\d\d:\d\d:\d\d\]|=+$|-+$|\^+$|Stack trace|ScheduleError: An error occurred)"
)
_LONGEST = 300


def said(error: BaseException) -> str:
    """Kind of the exception and the first line of its message that says something."""
    lines = (line.strip() for line in str(error).splitlines())
    told = next((line for line in lines if line and not _FRAME.match(line)), "")
    kind = type(error).__name__
    told = told.removeprefix(f"{kind}: ")
    return f"{kind}: {told}"[:_LONGEST] if told else kind
