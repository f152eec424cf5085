"""The models of the matrix, made once by all processes that run it, and versions of them."""

import functools
import warnings

import pytest

from . import models, oracle
from .cases import CASES


@pytest.fixture(scope="session")
def folder_of(made_once):
    """Return the folder of a model, made when first asked for."""
    return lambda name: made_once(f"matrix {name}", functools.partial(models.make, name))


@pytest.fixture(scope="session")
def plain_of(folder_of):
    """Return transformers' own pipeline of a case, built when first asked for."""
    built = {}

    def plain(case):
        if case.name not in built:
            built[case.name] = oracle.build(case.task, folder_of(case.model), case.arguments)
        return built[case.name]

    return plain


@pytest.fixture(scope="session")
def log(folder_of, tmp_path_factory):
    """Log the pipeline of a case into a registry on a folder, and resolve it as another host would; each case once."""
    from airflow_provider_hfreg.inference import pipeline
    from airflow_provider_hfreg.registry import Registry

    place = tmp_path_factory.mktemp("matrix")
    url = (place / "registry").as_uri()

    @functools.cache
    def logged(name):
        case = next(case for case in CASES if case.name == name)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # 4.57 warns where the name of a task tells no languages
            pipe = pipeline(case.task, str(folder_of(case.model)), device="cpu", **case.arguments)
        model_name = f"m{CASES.index(case)}"
        Registry(url, cache_folder=place / "host").log_model(pipe, model_name=model_name, version_name="v1")
        return Registry(url, cache_folder=place / "other host").resolve(f"{model_name}/v1")

    return lambda case: logged(case.name)
