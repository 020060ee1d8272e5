"""Where results and artifacts are kept."""

from pydantic import Field

from blocks.stored import Stored


class Tracking(Stored):
    """The MLflow server with the lab's runs and its artifact store."""

    _block_type_name = "VLab Tracking"
    _block_type_slug = "vlab-tracking"

    url: str = Field(description="address of the MLflow server, such as http://127.0.0.1:4201")
