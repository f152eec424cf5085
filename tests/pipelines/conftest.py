"""Tiny models made once per session, an engine and the plain pipeline on each."""

import functools

import pytest


@pytest.fixture(scope="session")
def folder_of(tmp_path_factory):
    """Return the folder of a model, made when first asked for."""

    @functools.cache
    def folder(make, architecture=None, **config):
        name = f"{make.__name__}-{architecture}"
        return make(
            tmp_path_factory.mktemp(name), **({} if architecture is None else {"architecture": architecture}), **config
        )

    return folder


@pytest.fixture(scope="session")
def engine_of():
    """Return an engine on a folder, loaded when first asked for."""
    from airflow_provider_hfreg.inference.engine import Engine
    from airflow_provider_hfreg.inference.fitting import fitted
    from airflow_provider_hfreg.inference.loading import load_pipeline
    from airflow_provider_hfreg.pipelines.folder import describe_folder

    @functools.cache
    def engine(folder, task):
        return Engine(fitted(load_pipeline(folder, describe_folder(folder, task), device="cpu")))

    return engine


@pytest.fixture(scope="session")
def pipe_of():
    """Return transformers' own pipeline on a folder: the oracle."""
    from airflow_provider_hfreg.inference.frameworks import transformers

    def pipe(folder, task, **arguments):
        return transformers.pipeline(task, str(folder), device="cpu", **arguments)

    return pipe
