"""Write down what was asked for, before anything runs."""

import secrets
import tempfile
from collections.abc import Callable
from pathlib import Path

from prefect import get_run_logger, task

from blocks.tracking import Tracking
from tasks.retrying import transient
from vlab import compiling, measuring, tracking
from vlab.errors import ModelError, RefusedError
from vlab.journal import Journal
from vlab.records import AssetRef, Board, CompileOptions, Plan, Request, utc_now
from vlab.settings import Settings


@task(task_run_name="open request", retries=2, retry_delay_seconds=2, retry_condition_fn=transient)
def open_request(
    model: str,
    dataset: str,
    boards: list[Board],
    plan: str,
    options: CompileOptions,
    request_id: str,
    *,
    kernel_profile: bool = False,
) -> Request:
    """Fetch model and data set into the request's journal and give it its nonces; an opened request is taken as it is."""
    journal = Journal(Settings.from_environment().runs / request_id)
    if known := journal.read("request.json"):
        return reopen(known, boards)
    store = Tracking.load("lab").url
    model_path, model_asset = _fetch(model, journal.path("model"), store, _one_file)
    compiling.survey_model(model_path, options.shapes)
    reference = compiling.inspect_model(model_path)
    if dataset:
        dataset_path, dataset_asset = _fetch(dataset, journal.path("dataset"), store, _data_set)
    else:
        rows = measuring.random_inputs(model_path, reference.format, options.shapes)
        dataset_path = journal.write("dataset/random.npz", rows)
        dataset_asset = tracking.store_put(dataset_path, dataset_path.name, url=store)
    inputs, labels = measuring.load_dataset(dataset_path)
    outputs = journal.write("reference.npz", measuring.reference_outputs(model_path, reference.format, inputs))
    request = Request(
        request_id=request_id,
        model=reference,
        model_asset=model_asset,
        targets=tuple(sorted({board.target for board in boards})),
        dataset=dataset_asset,
        reference=tracking.store_put(outputs, outputs.name, url=store),
        plan=Plan.named(plan, threads=options.threads),
        options=options,
        kernel_profile=kernel_profile,
        nonces={board.name: secrets.token_hex(32) for board in boards},
        tracking_run_id=tracking.start_request(
            request_id,
            url=store,
            params={"model": reference.name, "plan": plan, "boards": " ".join(board.name for board in boards)},
            tags={"vlab.model_sha256": reference.sha256, "vlab.dataset_sha256": dataset_asset.file.sha256},
        ),
        requested_on=utc_now(),
    )
    journal.write("request.json", request.to_json())
    get_run_logger().info(
        "request %s: model %s, %d inputs%s",
        request_id,
        reference.sha256[:12],
        len(inputs),
        "" if labels is None else ", labelled",
    )
    return request


def reopen(known: bytes, boards: list[Board]) -> Request:
    """The request as it was written.

    Raises:
        RefusedError: it was opened for other boards, so there is no nonce for these.
    """
    request = Request.from_json(known)
    if missing := sorted({board.name for board in boards} - set(request.nonces)):
        raise RefusedError(
            f"request {request.request_id} was opened for {', '.join(sorted(request.nonces))} "
            f"and not for {', '.join(missing)}; start a new request"
        )
    return request


def _one_file(model: Path, folder: Path) -> Path:
    gathered = compiling.gather(model, folder)
    if gathered.notice:
        get_run_logger().warning("%s: %s", model.name, gathered.notice)
    return gathered.path


def _data_set(path: Path, _: Path) -> Path:
    measuring.load_dataset(path)
    return path


def _fetch(source: str, into: Path, store: str, check: Callable[[Path, Path], Path]) -> tuple[Path, AssetRef]:
    """A file of the lab's machine, or an asset handed over by the client as JSON; either way a copy in the journal.

    A file is checked first: everybody can read the store, so nothing but models and data sets gets from here into it.
    """
    if source.startswith("{"):
        asset = AssetRef.from_json(source)
        return tracking.store_get(asset, into, url=store), asset
    path = Path(source).expanduser()
    if not path.is_file():
        raise ModelError(
            f"there is no file {source} on the lab's machine; give a path there, or hand it in with `vlab benchmark`"
        )
    with tempfile.TemporaryDirectory() as folder:
        asset = tracking.store_put(check(path, Path(folder)), path.name, url=store)
    return tracking.store_get(asset, into, url=store), asset
