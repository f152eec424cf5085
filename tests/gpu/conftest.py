"""
The devices, tiny models for them, and the same models on the processor: the oracle.

Every test that takes ``device`` runs twice: on a pretended device, everywhere, and on CUDA where there is one.
"""

import functools

import pytest

from .pretended import NAME, PretendedDevice
from .tasks import MAKERS


def cuda():
    """Return CUDA's device, or skip the test."""
    from airflow_provider_hfreg.inference.frameworks import torch

    if not torch.cuda.is_available():
        pytest.skip("there is no CUDA device here")
    return "cuda"


@pytest.fixture(name="cuda")
def cuda_fixture():
    """CUDA's device alone, for what no other one has."""
    return cuda()


@pytest.fixture(params=["pretended", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request):
    """The name of a device that is not the processor."""
    if request.param == "cuda":
        yield cuda()
        return
    with PretendedDevice():
        yield NAME


@pytest.fixture(scope="session")
def folder_of(tmp_path_factory):
    """Return the folder of a task's tiny model, made when first asked for."""

    @functools.cache
    def folder(task, architecture=None):
        options = {} if architecture is None else {"architecture": architecture}
        return MAKERS[task](tmp_path_factory.mktemp(task), **options)

    return folder


@pytest.fixture(scope="session")
def load(folder_of):
    """Load a fresh network and fit it; with ``dtype``, in other numbers than it was written in."""
    from dataclasses import replace

    from airflow_provider_hfreg.inference.fitting import fitted
    from airflow_provider_hfreg.inference.loading import load_pipeline
    from airflow_provider_hfreg.pipelines.folder import describe_folder

    def loaded(device, task, architecture=None, *, dtype="float32", fits=True, **parameters):
        folder = folder_of(task, architecture)
        spec = replace(describe_folder(folder, task, parameters), dtype=dtype)
        made = load_pipeline(folder, spec, device=device)
        return fitted(made) if fits else made

    return loaded
