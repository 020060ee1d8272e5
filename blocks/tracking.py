"""Where results and artifacts are kept."""

from prefect.blocks.core import Block
from pydantic import Field


class Tracking(Block):
    """The MLflow server with the lab's runs and its artifact store."""

    _block_type_name = "VLab Tracking"
    _block_type_slug = "vlab-tracking"
    _description = "The MLflow server with the lab's runs and its artifact store."

    url: str = Field(description="address of the MLflow server, such as http://127.0.0.1:4201")

    def get_url(self) -> str:
        """The tracking URL, as `vlab.tracking` takes it."""
        return self.url
