"""
A model of the Hugging Face hub as a local folder, pinned to one commit.

A branch moves; a version does not. So the branch is resolved to its commit first, and exactly the files of that commit
that may be stored are fetched. The token goes into the requests and nowhere else.
"""

from __future__ import annotations

import importlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from airflow_provider_hfreg.errors import (
    InferenceExtraMissingError,
    ModelNotFoundError,
    StorageDeniedError,
    StorageUnavailableError,
)
from airflow_provider_hfreg.storage.disk import explained, is_of_disk
from airflow_provider_hfreg.versions.cache_settings import CHOOSE_FOLDER
from airflow_provider_hfreg.versions.safety import select_files

_DEFAULT_ENDPOINT = "https://huggingface.co"


@dataclass(frozen=True)
class Snapshot:
    """The files of one commit."""

    folder: Path
    commit: str


def download_snapshot(
    repo_id: str, folder: Path, *, revision: str | None, token: str | None, remote_code: bool
) -> Snapshot:
    """
    Fetch the files of a hub repository that make a version.

    :param folder: where to, in the host's cache; created.
    :param remote_code: somebody consented to the repository's Python files.
    :raises ModelNotFoundError: no such repository or revision.
    :raises StorageDeniedError: gated or private.
    :raises StorageUnavailableError: the hub cannot be reached.
    :raises LocalFileError: the folder cannot be written, or its disk is full.
    :raises UnsafeModelError: the repository has its weights as pickles alone, or Python without consent.
    """
    try:
        import huggingface_hub  # noqa: PLC0415 - not in the base; comes with transformers
    except ImportError:
        raise InferenceExtraMissingError(
            "huggingface_hub is not installed here: pip install 'airflow-provider-hfreg[inference]', or fetch the "
            "model's files elsewhere and log the folder."
        ) from None
    # Read at each call: the library reads it at import, and a task's environment may come later.
    endpoint = os.environ.get("HF_ENDPOINT", _DEFAULT_ENDPOINT)
    # False, not None: None would send the token of whoever logged in on this host.
    api = huggingface_hub.HfApi(endpoint=endpoint, token=token or False)
    with explained("Fetching", folder, also=CHOOSE_FOLDER), _translated(repo_id, revision, endpoint):
        info = api.model_info(repo_id, revision=revision)
        commit = str(info.sha)
        paths = [sibling.rfilename for sibling in info.siblings or ()]
        selection = select_files(paths, remote_code=remote_code, where=f"{repo_id} at {commit[:12]}")
        for path in selection.stored:
            api.hf_hub_download(repo_id, path, revision=commit, local_dir=folder)
    shutil.rmtree(folder / ".cache", ignore_errors=True)  # the client's notes on what it fetched
    return Snapshot(folder, commit)


@contextmanager
def _translated(repo_id: str, revision: str | None, endpoint: str) -> Iterator[None]:
    """Turn the hub library's errors into ours, not a disk's; their texts, which may hold headers, stay out."""
    from huggingface_hub import errors  # noqa: PLC0415 - comes with transformers

    at = f"{repo_id}{'' if revision is None else f' at {revision!r}'} on {endpoint}"
    try:
        yield
    except errors.GatedRepoError as error:
        raise StorageDeniedError(
            f"{at} is gated: accept its conditions on the hub, and give a token of that account."
        ) from error
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
        raise ModelNotFoundError(
            f"{at} is not there, or is private and the token given (or none) may not see it. Check the id, the "
            "revision and the token."
        ) from error
    except (errors.HfHubHTTPError, errors.LocalEntryNotFoundError, _client_error(), OSError) as error:
        if is_of_disk(error):
            raise
        raise StorageUnavailableError(
            f"{at} could not be fetched ({type(error).__name__}). If this machine has no access to the hub, fetch the "
            "model's files elsewhere and log the folder."
        ) from error


def _client_error() -> type[Exception]:
    """Return the base error of the HTTP client: requests under huggingface_hub 0, httpx under 1, httpx2 under 2."""
    import huggingface_hub  # noqa: PLC0415 - comes with transformers

    client = importlib.import_module(type(huggingface_hub.get_session()).__module__.partition(".")[0])
    error: type[Exception] = client.HTTPError
    return error
