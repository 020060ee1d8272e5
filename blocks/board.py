"""A board and how its worker reaches it."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from blocks.stored import Stored
from vlab import records


class LocalTransport(BaseModel):
    """The worker's own machine is the board."""

    kind: Literal["local"] = "local"


class QemuUserTransport(BaseModel):
    """The worker's machine emulates the board, one process at a time."""

    kind: Literal["qemu-user"] = "qemu-user"


class QemuSystemTransport(BaseModel):
    """The worker's machine emulates a microcontroller with all its memory, which runs nothing but the model."""

    kind: Literal["qemu-system"] = "qemu-system"


class Board(Stored):
    """One physical or emulated board that a partner offers. Saved under the board's name."""

    _block_type_name = "VLab Board"
    _block_type_slug = "vlab-board"

    board: str = Field(description="unique name of the board; also names its concurrency limit, board-<name>")
    partner: str = Field(description="who owns it: picks the work pool and the worker's identity")
    target: str = Field(description="kind of board, as under targets/: riscv/rv64gc-linux")
    transport: Annotated[LocalTransport | QemuUserTransport | QemuSystemTransport, Field(discriminator="kind")] = Field(
        description="how the worker reaches it"
    )

    def get_board(self) -> records.Board:
        """The board as the library knows it."""
        kind = self.transport.kind
        info = records.BoardInfo(name=self.board, partner=self.partner, target=self.target, emulated=kind != "local")
        return records.Board(info=info, transport=kind)
