"""What vlab raises on purpose, grouped by what the caller can do about it.

A message says what was got, what was expected and what to do next. Exceptions of other libraries are translated in the one
module that imports the library.
"""


class VlabError(Exception):
    """Root of everything vlab raises on purpose."""


class TransientError(VlabError):
    """The other side did not answer properly; the same call may work later."""


class RefusedError(VlabError):
    """The input or the evidence is wrong; trying again cannot help."""


class ModelError(RefusedError):
    """The model cannot be read or compiled."""


class TargetError(RefusedError):
    """The target is unknown or its file is wrong."""


class MissingToolError(RefusedError):
    """A program or package this step needs is not on this machine; the message names the command that installs it."""


class CompileError(RefusedError):
    """Compiling failed, or what came out differs from the reference."""


class DifferenceError(CompileError):
    """What was compiled computes something else than the reference runtime.

    Args:
        message: what differs and by how much.
        outputs: names of the outputs that differ, where that is known.
    """

    def __init__(self, message: str, outputs: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.outputs = outputs


class DeployError(RefusedError):
    """The artifact was not let onto the board."""


class MeasureError(RefusedError):
    """The board did not run the artifact to a usable measurement."""


class EvidenceError(RefusedError):
    """Evidence, a statement, a signature or a proof does not hold."""


class DigestMismatchError(RefusedError):
    """The bytes in hand are not the bytes that were named."""

    def __init__(self, what: str, *, expected: str, got: str) -> None:
        super().__init__(
            f"{what}: got sha256 {got}, expected {expected}; fetch it again, and if it stays look for who changed it"
        )


class ServiceDownError(TransientError):
    """A service of the lab does not answer."""

    def __init__(self, service: str, address: str, why: object) -> None:
        if "Connection refused" in str(why):  # HTTP libraries wrap these two words in three lines of their own
            why = "connection refused"
        super().__init__(f"{service} at {address} does not answer ({why}); start it, for a local lab with: vlab up")


class ChainError(RefusedError):
    """The chain or the contract is not the pinned one, or refused the head."""
