"""
Places to store things, for every test: real ones, each test its own; and what is made once for all.

``store_url`` runs a test twice, on a local folder and on S3. SeaweedFS is started once per session (per worker with
pytest-xdist), by the first test that asks for it.
"""

from __future__ import annotations

import itertools
import json
import os
import uuid

import filelock
import hypothesis
import pytest

# A machine shared by many is slow at times; that is no failure. The rest is as Hypothesis itself chose: where CI is
# set, the same examples on every run, so that what fails there fails by the change and not by the draw, and can be
# repeated by the line that is printed; elsewhere new ones on every run, which is how new cases are found.
hypothesis.settings.register_profile("unhurried", hypothesis.settings(), deadline=None)
hypothesis.settings.load_profile("unhurried")

_NUMBERS = itertools.count()


@pytest.fixture(scope="session")
def made_once(tmp_path_factory):
    """
    Return a function of a name and a maker that gives the maker's folder.

    The processes of pytest-xdist share it: what takes seconds to make (a trained model) one of them makes for all.
    """
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent

    def folder(name, make):
        target = shared / name
        with filelock.FileLock(f"{target}.lock"):
            if not target.exists():
                unfinished = shared / f"{name}.unfinished"
                make(unfinished)
                unfinished.rename(target)
        return target

    return folder


@pytest.fixture(scope="session")
def seaweedfs(tmp_path_factory):
    """A running SeaweedFS: has ``settings()``, ``create_bucket(name)``, ``kill()``, ``restart()``."""
    from airflow_provider_hfreg.testing import servers

    with servers.seaweedfs(tmp_path_factory.mktemp("seaweedfs")) as server:
        yield server


@pytest.fixture(scope="session")
def postgres(tmp_path_factory):
    """A running PostgreSQL: has ``port``, ``user``, ``password``, ``url(database)``, ``kill()``, ``restart()``."""
    from airflow_provider_hfreg.testing.postgres import postgres_server

    with postgres_server(tmp_path_factory.mktemp("postgres")) as server:
        yield server


@pytest.fixture
def warehouse(postgres, monkeypatch):
    """Airflow's connection ``warehouse`` to that PostgreSQL; called with fields that are to differ."""

    def define(**changes):
        fields = {"conn_type": "postgres", "host": "127.0.0.1", "port": postgres.port, "schema": "postgres"}
        fields |= {"login": postgres.user, "password": postgres.password}
        monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps(fields | changes))

    define()
    return define


@pytest.fixture(scope="session")
def s3_settings(seaweedfs):
    """Settings that reach it."""
    return seaweedfs.settings()


@pytest.fixture(scope="session")
def _shared_bucket_url(seaweedfs):
    return seaweedfs.create_bucket(f"shared-{uuid.uuid4().hex[:12]}")


@pytest.fixture
def s3_url(_shared_bucket_url):
    """A fresh prefix in a bucket of the session: the quick way to an empty place on S3."""
    return f"{_shared_bucket_url}/test-{next(_NUMBERS)}"


@pytest.fixture
def s3_bucket_url(seaweedfs):
    """A fresh, empty bucket; costs a third of a second, so prefer ``s3_url`` where a prefix does."""
    name = f"test-{os.getpid()}-{next(_NUMBERS)}-{uuid.uuid4().hex[:8]}"
    yield seaweedfs.create_bucket(name)
    seaweedfs.delete_bucket(name)


@pytest.fixture
def file_url(tmp_path):
    """A folder of its own that does not exist yet."""
    return (tmp_path / "store").as_uri()


@pytest.fixture(params=["file", "s3"])
def store_url(request):
    """An empty root, once as ``file://`` and once as ``s3://`` (open it with ``s3_settings``)."""
    return request.getfixturevalue({"file": "file_url", "s3": "s3_url"}[request.param])
