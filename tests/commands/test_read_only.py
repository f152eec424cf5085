"""Commands on a registry that was opened to be read: what writes is refused, and a copy goes elsewhere."""

from argparse import Namespace

import pytest

from airflow_provider_hfreg.commands.checking import probe
from airflow_provider_hfreg.commands.moving import copy
from airflow_provider_hfreg.commands.places import find_target
from airflow_provider_hfreg.commands.replies import Asked, Place
from airflow_provider_hfreg.errors import StorageDeniedError
from airflow_provider_hfreg.registry import Registry


@pytest.fixture
def place(finbert):
    """Where the registry lies, to be read only."""
    return Place(finbert.url, cache_folder=str(finbert.folder / "cache"), read_only=True)


def asked(place, **options):
    return Asked(Namespace(**options), lambda _: place, find_target)


def test_trying_writes_is_writing(finbert, place):
    before = sorted(finbert.folder.rglob("*"))
    with pytest.raises(StorageDeniedError, match="opened read-only"):
        probe(asked(place))
    assert sorted(finbert.folder.rglob("*")) == before


def test_a_copy_from_a_registry_that_is_only_read_goes_to_another_and_not_into_it(finbert, place):
    options = {
        "reference": "finbert/v1",
        "to_profile": None,
        "to_endpoint_url": None,
        "no_annotations": False,
        "trust_remote_code": False,
        "no_verify": False,
    }
    elsewhere = (finbert.folder / "elsewhere").as_uri()
    reply = copy(asked(place, to=elsewhere, target=None, **options))
    assert reply.text.startswith("Logged finbert/v1")
    assert Registry(elsewhere, cache_folder=finbert.folder / "cache").resolve("finbert/v1")
    with pytest.raises(StorageDeniedError, match="read_only=True"):
        copy(asked(place, to=None, target="finbert/v3", **options))
