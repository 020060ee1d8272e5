"""Executed guest instructions out of QEMU's own log, for emulators that cannot load plugins.

With `-d op,exec,nochain` QEMU writes down a block of instructions when it translates it, and then one line each time it runs a
block, leaving none out:

    OP:                                                      a translation begins
     ---- 0000000000010dae 0000000000000000                  its first instruction,
     mov_i64 x3/gp,$0x96dae                                  and what became of it
     ---- 0000000000010db2 0000000000000000                  its second one
    Trace 0: 0x7f9628000240 [.../0000000000010dae/...]       the block runs, on CPU 0

In a guest with one thread nothing comes between a translation and the first run of its block. The translator marks the
instructions itself, where it also counts them for plugins; no disassembler is involved. The log has some 75 bytes for each run
of a block and is never stored.
"""

from vlab.errors import MeasureError

OPTIONS = ("-d", "op,exec,nochain", "-D", "/dev/stdout")
"""For QEMU 7.2 and later; the program itself must print nothing there."""

_TRANSLATION, _INSTRUCTION, _RUN, _STOPPED, _DETAIL = b"OP:", b" ----", b"Trace 0: ", b"Stopped execution ", b" "
_RESTARTED = b"Restarting code generation "
_LONGEST_LINE = 1 << 16


class UnreadableLogError(MeasureError):
    """The log is not what this module knows how to count."""


class ExecutionLog:
    """Counts while the log comes in.

    Args:
        mark: address of a function of the guest; the count at each of its entries goes into `marks`. None without.
    """

    def __init__(self, mark: int | None = None) -> None:
        self.marks: list[int] = []
        self._mark = mark
        self._marked: set[bytes] = set()
        self._begin = -1
        """Address of the first instruction of the block that was translated last."""
        self._sizes: dict[bytes, int] = {}
        """Instructions of a block by the line that says it runs; the line holds the address of its code."""
        self._executed = self._last = self._translated = 0
        self._rest = b""

    def feed(self, piece: bytes) -> None:
        """Take in the next bytes of the log.

        Raises:
            UnreadableLogError: a line is not as described above.
        """
        lines = (self._rest + piece).split(b"\n")
        self._rest = lines.pop()
        if len(self._rest) > _LONGEST_LINE:
            raise UnreadableLogError(f"the emulator's log has a line without end: {self._rest[:200]!r}")
        for line in lines:
            if line.startswith(_RUN):
                if self._translated:  # also where code was thrown away and the same address is used again
                    self._sizes[line] = self._translated
                    self._translated = 0
                    (self._marked.add if self._begin == self._mark else self._marked.discard)(line)
                if line not in self._sizes:
                    raise UnreadableLogError(f"the emulator runs a block that it never translated: {line[:200]!r}")
                if line in self._marked:
                    self.marks.append(self._executed)
                self._last = self._sizes[line]
                self._executed += self._last
            elif line.startswith(_INSTRUCTION):
                if not self._translated:
                    self._begin = int(line.split()[1], 16)
                self._translated += 1
            elif line == _TRANSLATION:
                self._translated = 0  # a translation that became too large is begun again with fewer instructions
            elif line.startswith(_STOPPED):
                self._executed -= self._last  # before the first instruction of that block; it comes again
            elif line and not line.startswith((_DETAIL, _RESTARTED)):
                raise UnreadableLogError(f"the emulator's log has an unknown line: {line[:200]!r}")

    def total(self) -> int:
        """Instructions executed, once the program has ended.

        Raises:
            UnreadableLogError: the log ends in the middle of a line, or is empty.
        """
        if self._rest or not self._executed:
            raise UnreadableLogError(f"the emulator's log is not whole, it ends with {self._rest[-200:]!r}")
        return self._executed
