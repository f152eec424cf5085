"""One version, many writers, lost answers: visible exactly once, or not at all."""

import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from airflow_provider_hfreg.errors import (
    IntegrityError,
    KeyNotFoundError,
    PublishStateUnknownError,
    StorageError,
    StorageUnavailableError,
    UnknownFormatError,
    UnsafeModelError,
    VersionExistsError,
)
from airflow_provider_hfreg.storage.local import LocalStore
from airflow_provider_hfreg.testing.faults import Fault, Faults, FaultyStore, raising
from airflow_provider_hfreg.versions.layout import Layout
from airflow_provider_hfreg.versions.publish import find_manifest
from airflow_provider_hfreg.versions.refs import Head
from airflow_provider_hfreg.versions.sources import StoredFolder
from airflow_provider_hfreg.versions.swap import edit

LOST = raising(StorageUnavailableError("the answer was lost"))


def test_a_version_is_visible_with_all_its_bytes(store, model_folder, publish_folder):
    folder = model_folder()
    published = publish_folder(store, folder, metrics={"f1": 0.5})
    assert published.created
    found = find_manifest(store, "finbert", "v1")
    assert found == published.manifest
    assert found.logged.metrics == {"f1": 0.5}
    for file in found.files:
        assert store.get(file.key) == (folder / file.path).read_bytes()


def test_a_manifest_in_another_versions_place_is_refused(store, model_folder, publish_folder):
    publish_folder(store, model_folder(), version_name="v9")
    store.copy(Layout.manifest("finbert", "v9"), Layout.manifest("finbert", "v1"))
    with pytest.raises(UnknownFormatError, match=r"versions/v1.json says that it is finbert/v9"):
        find_manifest(store, "finbert", "v1")
    assert find_manifest(store, "finbert", "v9").version_name == "v9"


def test_writers_with_different_content_have_one_winner_and_the_others_learn_who(store, model_folder, publish_folder):
    folders = [model_folder(str(seed), seed=seed) for seed in range(8)]

    def one(folder):
        try:
            return publish_folder(store, folder)
        except VersionExistsError as error:
            return error

    with ThreadPoolExecutor(8) as threads:
        results = list(threads.map(one, folders))
    errors = [result for result in results if isinstance(result, VersionExistsError)]
    assert len(errors) == 7
    assert all("'v1' of model 'finbert'" in str(error) and "user ana" in str(error) for error in errors)


def test_writers_with_the_same_content_all_succeed_and_one_created_it(store, model_folder, publish_folder):
    folder = model_folder()
    with ThreadPoolExecutor(8) as threads:
        results = list(threads.map(lambda _: publish_folder(store, folder), range(8)))
    assert [result.created for result in results].count(True) == 1
    assert len({result.manifest.nonce for result in results}) == 1


def test_logging_the_same_content_again_moves_no_byte_and_keeps_what_was_logged(store, model_folder, publish_folder):
    folder = model_folder()
    publish_folder(store, folder, metrics={"f1": 0.5})
    counted = FaultyStore(store)
    again = publish_folder(counted, folder, metrics={"f1": 0.9})
    assert not again.created
    assert again.manifest.logged.metrics == {"f1": 0.5}
    assert set(counted.faults.calls) == {"get", "get_with_etag", "find_info"}
    assert counted.faults.calls["find_info"] == len(again.manifest.files)


def test_logging_the_same_content_again_uploads_the_blobs_that_are_gone(store, model_folder, publish_folder):
    folder = model_folder()
    published = publish_folder(store, folder)
    lost = published.manifest.files[0]
    store.delete([lost.key])
    again = publish_folder(store, folder)
    assert not again.created
    assert again.manifest == published.manifest
    assert store.get(lost.key) == (folder / lost.path).read_bytes()


def test_other_content_under_a_taken_name_is_refused_before_anything_is_uploaded(store, model_folder, publish_folder):
    publish_folder(store, model_folder("a", seed=1))
    counted = FaultyStore(store)
    with pytest.raises(VersionExistsError, match="choose another version name"):
        publish_folder(counted, model_folder("b", seed=2))
    assert not set(counted.faults.calls) & {"upload", "put", "put_if_absent"}


def test_a_second_version_with_the_same_weights_uploads_no_weights(store, model_folder, publish_folder):
    publish_folder(store, model_folder("a", weight_bytes=100_000))
    second = model_folder("b", weight_bytes=100_000)
    (second / "config.json").write_text('{"model_type": "bert", "num_labels": 3}')
    counted = FaultyStore(store)
    assert publish_folder(counted, second, version_name="v2").created
    uploaded = [key for operation, key in counted.faults.log if operation == "upload"]
    assert uploaded == [file.key for file in find_manifest(store, "finbert", "v2").files if file.path == "config.json"]


def test_a_lost_answer_to_the_commit_is_success_exactly_once(store, model_folder, publish_folder):
    faulty = FaultyStore(store, Faults(Fault("put_if_absent", LOST, when="after")))
    published = publish_folder(faulty, model_folder())
    assert published.created
    assert find_manifest(store, "finbert", "v1").nonce == published.manifest.nonce


def test_a_commit_that_never_arrived_is_sent_again(store, model_folder, publish_folder):
    faulty = FaultyStore(store, Faults(Fault("put_if_absent", LOST, when="before")))
    assert publish_folder(faulty, model_folder()).created
    assert find_manifest(store, "finbert", "v1") is not None


def test_a_lost_answer_after_which_another_won_is_a_conflict(store, model_folder, publish_folder):
    def another_then_lose():
        publish_folder(store, model_folder("other", seed=9))
        LOST()

    faulty = FaultyStore(store, Faults(Fault("put_if_absent", another_then_lose, when="before")))
    with pytest.raises(VersionExistsError):
        publish_folder(faulty, model_folder())


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_lost_answer_that_cannot_be_asked_for_is_told_as_unknown_and_logging_again_settles_it(
    file_url, model_folder, publish_folder, when
):
    store = LocalStore(file_url)
    gone = Faults(
        Fault("put_if_absent", LOST, call=None, when=when),
        Fault("get", LOST, call=None, key="versions/"),
    )
    # The first look at the name must work: the store goes away later.
    looked = Faults(
        Fault("put_if_absent", LOST, call=None, when=when),
        *(Fault("get", LOST, call=call, key="versions/") for call in (2, 3, 4)),
    )
    with pytest.raises(StorageUnavailableError):
        publish_folder(FaultyStore(store, gone), model_folder())
    with pytest.raises(PublishStateUnknownError, match="Log the same model under the same name again"):
        publish_folder(FaultyStore(store, looked), model_folder())
    again = publish_folder(store, model_folder())
    assert again.created is (when == "before")


def test_a_deleted_name_is_not_used_again(store, model_folder, publish_folder):
    publish_folder(store, model_folder())
    edit(store, Layout.head("finbert"), Head.from_plain, Head(), lambda head: head.with_tombstone("v1", "2026-01-01"))
    with pytest.raises(VersionExistsError, match="was deleted at 2026-01-01"):
        publish_folder(store, model_folder())


def test_a_blob_that_the_store_shows_with_another_size_is_not_published(file_url, model_folder, publish_folder):
    store = LocalStore(file_url)

    def cut():
        for info in store.list_infos("blobs/"):
            store.put(info.key, b"cut")

    faulty = FaultyStore(store, Faults(Fault("upload", cut, when="after", call=None)))
    with pytest.raises(StorageError, match="another size"):
        publish_folder(faulty, model_folder())
    assert find_manifest(store, "finbert", "v1") is None
    assert publish_folder(store, model_folder()).created  # the damaged blob is replaced


def test_a_file_that_changes_between_hashing_and_uploading_is_noticed(file_url, model_folder, publish_folder):
    store, folder = LocalStore(file_url), model_folder()
    faulty = FaultyStore(store, Faults(Fault("find_info", lambda: model_folder(seed=7), call=2)))
    with pytest.raises(IntegrityError, match="changed while it was being logged"):
        publish_folder(faulty, folder)
    assert find_manifest(store, "finbert", "v1") is None


def test_a_file_that_changes_while_it_is_uploaded_spoils_no_blob(file_url, model_folder, publish_folder):
    store, folder = LocalStore(file_url), model_folder()
    weights = folder / "model.safetensors"
    good = weights.read_bytes()

    def change():
        weights.write_bytes(good[:-1] + b"!")
        os.utime(weights, ns=(1, 1))

    faulty = FaultyStore(store, Faults(Fault("upload", change, call=2)))
    with pytest.raises(IntegrityError):
        publish_folder(faulty, folder)
    weights.write_bytes(good)
    published = publish_folder(store, folder)
    for file in published.manifest.files:
        assert store.get(file.key) == (folder / file.path).read_bytes()


def test_a_refused_file_leaves_the_store_untouched(file_url, model_folder, publish_folder):
    folder = model_folder()
    (folder / "tokenizer.model").write_bytes(b"PK\x03\x04rest")
    counted = FaultyStore(LocalStore(file_url))
    with pytest.raises(UnsafeModelError):
        publish_folder(counted, folder)
    assert not counted.faults.calls


@pytest.mark.parametrize("keep", [True, False])
def test_a_folder_of_a_store_is_published_file_by_file(
    store, model_folder, publish_folder, publish_from, tmp_path, keep
):
    folder = model_folder()
    source_store = store.below("elsewhere")
    for path in folder.iterdir():
        source_store.upload(path.name, path)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    published = publish_from(store, StoredFolder(source_store, scratch, keep=keep))
    assert published.manifest.content_digest == publish_folder(store, folder).manifest.content_digest
    assert any(path.is_file() for path in scratch.rglob("*")) is keep


def test_the_sketch_of_a_stored_folder_has_true_sizes_and_no_weights(file_url, model_folder, tmp_path):
    folder = model_folder(weight_bytes=1_000_000)
    store = LocalStore(file_url)
    for path in folder.iterdir():
        store.upload(path.name, path)
    counted = FaultyStore(store)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    sketch = StoredFolder(counted, scratch).sketch(("config.json", "model.safetensors"))
    weights = sketch / "model.safetensors"
    assert weights.stat().st_size == (folder / "model.safetensors").stat().st_size
    assert weights.stat().st_blocks * 512 < 100_000
    assert ("download", "model.safetensors") not in counted.faults.log


def test_an_empty_source_says_that_there_is_nothing_to_log(file_url, tmp_path, publish_folder):
    with pytest.raises(KeyNotFoundError, match="nothing to log"):
        publish_folder(LocalStore(file_url), tmp_path / "absent")
