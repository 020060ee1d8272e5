"""The tracking server: an artifact store addressed by content, and runs that hold what was measured.

Both live in one MLflow tracking server, named by its URL. A tracking URL is `http://host:port` for a server, or
`sqlite:////path/mlflow.db` or an absolute directory for a store on this machine that no server runs on; all three keep the same
layout, so the directory of a stopped server can be read in place.

    asset = store_put(model_bytes, "digits.onnx", url=url)
    path = store_get(asset, directory, url=url)           # the digest is checked
    parent = start_request(request_id, url=url)
    run = log_result(parent, result, url=url)             # again: the same run
    attach(run, url=url, files={"evidence.json": path})
"""

from vlab.tracking.runs import LoggedRun, attach, finish_request, log_result, search, start_request
from vlab.tracking.store import store_get, store_put, store_read

__all__ = [
    "LoggedRun",
    "attach",
    "finish_request",
    "log_result",
    "search",
    "start_request",
    "store_get",
    "store_put",
    "store_read",
]
