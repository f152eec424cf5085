"""A registry on each store, and real models of a few kilobytes."""

import pytest

from airflow_provider_hfreg.registry import Registry


@pytest.fixture
def open_registry(store_url, request, tmp_path):
    """A function that opens the test's registry; every call is a new object with its own cache, as a new host is."""
    settings = request.getfixturevalue("s3_settings") if store_url.startswith("s3") else None
    hosts = iter(range(100))
    return lambda **changes: Registry(
        store_url, **{"s3": settings, "cache_folder": tmp_path / f"host-{next(hosts)}", **changes}
    )


@pytest.fixture
def registry(open_registry):
    """An empty registry, on a folder and on S3 in turn."""
    return open_registry()


@pytest.fixture
def file_registry(file_url, tmp_path):
    """An empty registry on a folder, for what no store makes a difference to."""
    return Registry(file_url, cache_folder=tmp_path / "host")


@pytest.fixture(scope="session")
def classifier(tmp_path_factory):
    """A folder with a tiny text classifier."""
    from airflow_provider_hfreg.testing.models import text_classifier

    return text_classifier(tmp_path_factory.mktemp("classifier") / "model")


@pytest.fixture(scope="session")
def other_classifier(tmp_path_factory):
    """Another one, of other weights."""
    from airflow_provider_hfreg.testing.models import text_classifier

    return text_classifier(tmp_path_factory.mktemp("other") / "model", seed=1)


@pytest.fixture(scope="session")
def generator(tmp_path_factory):
    """A folder with a tiny text generator."""
    from airflow_provider_hfreg.testing.models import text_generator

    return text_generator(tmp_path_factory.mktemp("generator") / "model")
