"""While libraries are imported nobody looks for cycles; afterwards the collector is as it was."""

import gc
import weakref

import pytest

from airflow_provider_hfreg.inference.importing import uncollected


class Cycle:
    def __init__(self):
        self.itself = self


@pytest.fixture
def collector():
    """Leave the collector on and nothing frozen, whatever a test does."""
    gc.collect()
    yield gc
    gc.unfreeze()
    gc.enable()


def test_cycles_that_were_made_meanwhile_are_found_afterwards(collector):
    with uncollected():
        assert not collector.isenabled()
        kept = weakref.ref(Cycle())
        for _ in range(5_000):
            Cycle()
        assert kept() is not None
    assert collector.isenabled()
    assert kept() is not None  # it is old by now, and no part of the next look at what is young
    collector.collect()
    assert kept() is None


def test_a_collector_that_was_off_stays_off_and_what_was_frozen_stays_frozen(collector):
    collector.disable()
    with uncollected():
        pass
    assert not collector.isenabled()

    collector.enable()
    collector.freeze()
    frozen = collector.get_freeze_count()
    with uncollected():
        pass
    assert 0 < collector.get_freeze_count() <= frozen


def test_it_is_on_again_after_an_import_that_failed(collector):
    with pytest.raises(ImportError), uncollected():
        raise ImportError("no such library")
    assert collector.isenabled()


def test_a_load_ages_nothing(tmp_path, collector):
    """What the loads before it dropped, and a cycle holds, is looked for as ever."""
    from airflow_provider_hfreg.inference.loading import load_pipeline
    from airflow_provider_hfreg.pipelines.folder import describe_folder
    from airflow_provider_hfreg.testing.encoder_models import sequence_classifier

    folder = sequence_classifier(tmp_path / "model")
    spec = describe_folder(folder, "text-classification", {})
    load_pipeline(folder, spec, device="cpu")  # the first one imports
    dropped = weakref.ref(Cycle())
    load_pipeline(folder, spec, device="cpu")
    collector.collect(1)  # all but what is old
    assert dropped() is None
