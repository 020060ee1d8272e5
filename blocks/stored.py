"""What the lab's blocks have in common: they load synchronously, and a missing one says what to do."""

from typing import TYPE_CHECKING, Self

from prefect.blocks.core import Block

from vlab.errors import RefusedError

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient


class Stored(Block):
    """A block document of this lab."""

    @classmethod
    def load(cls, name: str, validate: bool = True, client: "PrefectClient | None" = None) -> Self:  # noqa: ARG003
        """The block saved under a name.

        Args:
            name: name of the block document.
            validate: refuse a document that does not fit this class.
            client: not used; a synchronous client is made.

        Raises:
            RefusedError: there is none, or it was saved by another version of this block.
        """
        try:
            loaded = super().load(name, validate=validate, _sync=True)  # type: ignore[call-arg]
        except (ValueError, RuntimeError) as error:
            slug = cls.get_block_type_slug()
            raise RefusedError(
                f"no usable block {slug}/{name} in Prefect ({error}); a local lab's `vlab up` saves it"
            ) from error
        if not isinstance(loaded, cls):
            raise TypeError(f"got {type(loaded).__name__} from Prefect, expected {cls.__name__}")
        return loaded
