"""Which boards answer for which targets."""

from prefect import task
from prefect.client.orchestration import get_client

from blocks.board import Board as BoardBlock
from vlab.errors import TargetError
from vlab.records import Board


@task(task_run_name="find boards")
def find_boards(targets: list[str]) -> list[Board]:
    """The first board, by name, of each target; boards are the Prefect blocks of that type."""
    with get_client(sync_client=True) as client:
        documents = client.read_block_documents_by_type(BoardBlock.get_block_type_slug())
    boards = sorted((BoardBlock.load(d.name).get_board() for d in documents if d.name), key=lambda board: board.name)
    first = {board.target: board for board in reversed(boards)}
    missing = [target for target in targets if target not in first]
    if missing:
        raise TargetError(f"no board of this lab is a {', '.join(missing)}; it has {', '.join(sorted(first))}")
    return [first[target] for target in dict.fromkeys(targets)]
