"""A version in another place: copied, exported, imported; its content the same, its lineage longer."""

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from airflow_provider_hfreg.errors import (
    BlobMissingError,
    DigestMismatchError,
    FolderTakenError,
    InvalidNameError,
    LocalFileError,
    StorageUrlError,
    UnknownFormatError,
    UnsafeModelError,
    VersionExistsError,
)
from airflow_provider_hfreg.registry import Registry
from airflow_provider_hfreg.storage.urls import open_store
from airflow_provider_hfreg.testing.faults import FaultyStore, files_hold_at_most
from airflow_provider_hfreg.versions.layout import Layout
from airflow_provider_hfreg.versions.manifest import Annotations, VersionFile
from airflow_provider_hfreg.versions.refs import State

TASK = "text-classification"


@pytest.fixture
def original(registry, classifier):
    """A version with things said about it, then and later."""
    version = registry.log_folder(
        classifier,
        model_name="finbert",
        version_name="v1",
        task=TASK,
        pipeline_kwargs={"top_k": 2},
        metrics={"accuracy": 0.9},
        lineage={"training_data": "s3://lake/train", "ticket": 7},
    )
    version.set_tags({"stage": "live"})
    registry.get_model("finbert").set_alias("champion", "v1")
    return version


@pytest.fixture
def counted(store_url, request, tmp_path):
    """A registry at the test's store, and the calls that are made of it."""
    settings = request.getfixturevalue("s3_settings") if store_url.startswith("s3") else None
    store = FaultyStore(open_store(store_url, settings))
    return Registry(store, cache_folder=tmp_path / "counted"), store.faults


def said(version):
    return version.tags, version.metrics, version.comment


def test_a_copy_within_a_registry_moves_no_byte_and_keeps_what_is_said(original, counted):
    registry, faults = counted
    copy = registry.copy_version("finbert@champion", model_name="finbert-prod", version_name="2026-01")
    assert (copy.reference, copy.content_digest) == ("finbert-prod/2026-01", original.content_digest)
    assert said(copy) == ({"stage": "live"}, {"accuracy": 0.9}, None)
    assert not {"upload", "download", "copy", "copy_from", "open_reader"} & set(faults.calls)
    assert registry.get_model("finbert-prod").aliases() == {}


def test_between_two_registries_of_one_server_the_server_copies_what_was_read_here(original, counted, tmp_path):
    if original.registry_url.startswith("file"):
        pytest.skip("a folder has no server that could copy: the files are read here, and verified")
    source, _ = counted
    other = FaultyStore(source._store.unwrapped.below("elsewhere"))
    target = Registry(other, cache_folder=tmp_path / "target")
    copy = target.copy_version(source.resolve("finbert/v1"))
    assert copy.content_digest == original.content_digest
    assert not {"upload", "open_reader"} & set(other.faults.calls)
    assert other.faults.calls["copy_from"] == len(original.manifest.files)
    assert target.verify().damages == ()
    assert {file.path for file in copy.manifest.files} == {path.name for path in copy.local_folder().iterdir()}


def test_a_damaged_blob_is_not_copied_by_the_server_unless_nobody_looks(original, counted, tmp_path):
    """A damaged blob under its digest would be relied upon by every later logger of the true file."""
    if original.registry_url.startswith("file"):
        pytest.skip("a folder has no server that could copy")
    source, _ = counted
    store = source._store.unwrapped
    target = Registry(store.below("elsewhere"), cache_folder=tmp_path / "target")
    weights = next(file for file in original.manifest.files if file.path == "model.safetensors")
    content = store.get(weights.key)
    store.put(weights.key, content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(DigestMismatchError, match=r"model\.safetensors of finbert/v1 in .* is damaged"):
        target.copy_version(source.resolve("finbert/v1"))
    assert store.below("elsewhere").find_info(weights.key) is None
    assert target.models() == []
    assert target.copy_version(source.resolve("finbert/v1"), verify=False).created
    [damage] = target.verify().damages
    assert damage.problem.startswith("has the digest")


def test_a_copy_to_another_store_is_streamed_and_verified(original, tmp_path):
    target = Registry((tmp_path / "other-store").as_uri(), cache_folder=tmp_path / "other-host")
    copy = target.copy_version(original)
    assert copy.content_digest == original.content_digest
    assert target.verify().to_json() == {
        "versions": 1,
        "blobs": 4,
        "size_bytes": original.manifest.size_bytes,
        "damages": (),
    }
    assert not list((tmp_path / "other-host" / "scratch").iterdir())


def test_the_lineage_of_a_copy_names_each_place_and_keeps_who_trained_it(original, registry, tmp_path):
    target = Registry((tmp_path / "other-store").as_uri(), cache_folder=tmp_path / "other-host")
    staged = target.copy_version(original, model_name="staged")
    copy = target.copy_version(staged, model_name="live", version_name="v9", keep_annotations=False)
    lineage = copy.lineage()
    assert (lineage.training_data, lineage.further) == ("s3://lake/train", {"ticket": 7})
    assert (lineage.logged_by, lineage.logged_at) == (original.manifest.logged_by, original.manifest.created)
    assert [(place["registry"], place["model_name"]) for place in lineage.copied_from] == [
        (registry.url, "finbert"),
        (target.url, "staged"),
    ]
    assert set(lineage.copied_from[0]["copied_by"]) == {"user", "host"}
    assert said(copy) == ({}, {}, None)
    assert copy.manifest.created > original.manifest.created


def test_a_copy_again_changes_nothing_and_another_content_is_refused(original, registry, classifier):
    assert registry.copy_version(original, version_name="v2").created
    assert not registry.copy_version(original, version_name="v2").created
    registry.log_folder(classifier, model_name="finbert", version_name="v3", task=TASK)
    with pytest.raises(VersionExistsError):
        registry.copy_version(original, version_name="v3")
    with pytest.raises(InvalidNameError):
        registry.copy_version(original, model_name="a/b")


def test_a_damaged_or_lost_blob_is_not_copied_to_another_store(original, registry, tmp_path):
    target = Registry((tmp_path / "other-store").as_uri(), cache_folder=tmp_path / "other-host")
    weights = next(file for file in original.manifest.files if file.path == "model.safetensors")
    content = registry._store.get(weights.key)
    registry._store.put(weights.key, content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(DigestMismatchError, match=r"model\.safetensors of finbert/v1 in .* is damaged"):
        target.copy_version(original)
    registry._store.delete([weights.key])
    with pytest.raises(BlobMissingError, match=r"has lost its file model\.safetensors"):
        target.copy_version(original)
    assert target.models() == []


@pytest.mark.parametrize("room_bytes", [0, 100, 60_000])
def test_a_copy_that_finds_no_room_on_this_machine_says_where_and_what_to_do(original, tmp_path, room_bytes):
    """There is room for no file, for the smallest, and for all small ones and not for the weights."""
    sizes = [file.size_bytes for file in original.manifest.files]
    assert sum(size > room_bytes for size in sizes)
    target = Registry((tmp_path / "other-store").as_uri(), cache_folder=tmp_path / "other-host")
    target._begin()
    with (
        files_hold_at_most(room_bytes),
        pytest.raises(LocalFileError, match=r"Fetching .*other-host.* failed: File too large.* set another one"),
    ):
        target.copy_version(original)
    assert target.models() == []
    assert not list((tmp_path / "other-host" / "scratch").iterdir())


def strangers(registry, original, name, **changes):
    """Put a manifest that nobody logged beside the others, as a stranger's program may, and return its version."""
    manifest = replace(original.manifest, version_name=name, **{"nonce": name, **changes})
    registry._store.put(Layout.manifest("finbert", name), manifest.to_bytes())
    return registry.resolve(f"finbert/{name}")


def put_file(registry, path, content):
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    registry._store.put(Layout.blob(digest), content)
    return VersionFile(path, Layout.blob(digest), digest, len(content))


@pytest.mark.parametrize(
    ("path", "content", "said"),
    [
        ("weights.pkl", b"\x80\x04.", r"weights\.pkl, which is a pickle"),
        ("notes.txt", b"\x80\x04.", r"notes\.txt is by its content a pickle"),
        ("own.py", b"print('hello')", "holds Python code"),
        ("notes.txt", b"hf_" + b"a" * 34, r"notes\.txt holds a Hugging Face token"),
        ("training_args.bin", b"\x80\x04.", r"holds training_args\.bin, which logging leaves out"),
        (
            "more.safetensors",
            save({"a": np.zeros(2)}, metadata={"note": "hf_" + "a" * 34}),
            r"more\.safetensors\['__metadata__'\]\['note'\] holds a Hugging Face token",
        ),
        ("more.safetensors", b"no header", r"more\.safetensors is no safetensors file"),
    ],
)
def test_what_may_not_be_logged_may_not_be_copied_here_either(
    original, registry, s3_url, s3_settings, tmp_path, path, content, said
):
    """From a folder the files come through this machine; from S3 the server would copy them."""
    target = Registry(f"{s3_url}/elsewhere", s3=s3_settings, cache_folder=tmp_path / "target")
    files = (*original.manifest.files, put_file(registry, path, content))
    version = strangers(registry, original, "of-a-stranger", files=files)
    with pytest.raises(UnsafeModelError, match=said):
        target.copy_version(version)
    assert target.models() == []
    assert not list(open_store(target.url, s3_settings).list_infos("blobs/"))


@pytest.mark.parametrize("part", ["lineage", "logged_by", "environment"])
def test_a_token_in_a_strangers_manifest_is_refused(original, registry, tmp_path, part):
    target = Registry((tmp_path / "other-store").as_uri(), cache_folder=tmp_path / "target")
    version = strangers(registry, original, "of-a-stranger", **{part: {"note": "hf_" + "a" * 34}})
    with pytest.raises(UnsafeModelError, match=rf"'{part}'.* holds a Hugging Face token"):
        target.copy_version(version)


def test_a_strangers_copy_of_a_nonce_buys_no_trust(original, registry, tmp_path):
    """Whoever may read a registry knows its nonces, and may publish other files under the names that go with them."""
    target = Registry((tmp_path / "other-store").as_uri(), cache_folder=tmp_path / "target")
    held = target.copy_version(original, version_name="v2")
    for path, content, refused in (
        ("own.py", b"print('hello')", "holds Python code"),
        ("notes.txt", b"\x80\x04.", r"notes\.txt is by its content a pickle"),
        ("notes.txt", b"hf_" + b"a" * 34, r"notes\.txt holds a Hugging Face token"),
    ):
        files = (*original.manifest.files, put_file(registry, path, content))
        version = strangers(registry, original, "v2", nonce=held.manifest.nonce, files=files)
        with pytest.raises(UnsafeModelError, match=refused):
            target.copy_version(version, version_name="v3")
    assert [version.version_name for version in target.get_model("finbert").versions()] == ["v2"]


def test_what_a_stranger_says_of_a_version_held_here_is_searched_for_tokens(original, registry, tmp_path):
    target = Registry((tmp_path / "other-store").as_uri(), cache_folder=tmp_path / "target")
    held = target.copy_version(original, version_name="v2")
    registry._store.put(Layout.manifest("finbert", "v2"), held.manifest.to_bytes())
    state = State(Annotations(comment="hf_" + "a" * 34), revision=1)
    registry._store.put(Layout.state("finbert", "v2"), state.to_bytes())
    with pytest.raises(UnsafeModelError, match=r"\['comment'\] holds a Hugging Face token"):
        target.copy_version(registry.resolve("finbert/v2"), version_name="v3")


def test_consent_to_python_is_given_in_each_registry_anew(file_registry, classifier, tmp_path):
    folder = tmp_path / "own"
    shutil.copytree(classifier, folder)
    (folder / "own.py").write_text("print('hello')\n")
    version = file_registry.log_folder(
        folder, model_name="finbert", version_name="v1", task=TASK, trust_remote_code=True
    )
    assert file_registry.copy_version(version, version_name="v2").created  # it was given here
    assert file_registry.copy_version("finbert/v1", version_name="v3").created
    other_way = Registry(FaultyStore(open_store(file_registry.url)), cache_folder=tmp_path / "other-way")
    assert file_registry.copy_version(other_way.resolve("finbert/v1"), version_name="v4").created
    target = Registry((tmp_path / "other-store").as_uri(), cache_folder=tmp_path / "target")
    with pytest.raises(UnsafeModelError, match="bring it here with trust_remote_code=True"):
        target.copy_version(version)
    assert target.copy_version(version, trust_remote_code=True).created
    assert target.verify().damages == ()


def test_an_export_goes_into_a_new_folder_of_this_machine(file_registry, classifier, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    version = file_registry.log_folder(classifier, model_name="finbert", version_name="v1", task=TASK)
    before = set(tmp_path.iterdir())
    for elsewhere in ("s3://bucket/exports", Path("s3://bucket/exports"), "https://host/exports"):
        with pytest.raises(StorageUrlError, match="is no folder of this machine"):
            version.export(elsewhere)
    assert set(tmp_path.iterdir()) == before
    folder = version.export((tmp_path / "an export").as_uri())
    assert folder == tmp_path / "an export"
    assert (folder / "hfreg_manifest.json").is_file()
    with pytest.raises(FolderTakenError, match="is not empty"):
        version.export(folder)
    with pytest.raises(FolderTakenError, match="is a file"):
        version.export(folder / "config.json")
    with pytest.raises(LocalFileError, match="A file is where a folder should be"):
        version.export(folder / "config.json" / "below")


def test_an_export_is_a_plain_folder_and_comes_back_as_the_same_content(original, open_registry, tmp_path):
    folder = original.export(tmp_path / "exported", verify=True)
    assert {path.name for path in folder.iterdir()} == {
        *(file.path for file in original.manifest.files),
        "hfreg_manifest.json",
    }
    assert not any(path.is_symlink() for path in folder.iterdir())
    back = open_registry().import_version(folder, model_name="other")
    assert (back.reference, back.content_digest) == ("other/v1", original.content_digest)
    assert said(back) == ({"stage": "live"}, {"accuracy": 0.9}, None)
    assert [place["registry"] for place in back.lineage().copied_from] == [None]
    assert open_registry().import_version(folder).created is False


def test_an_export_is_imported_from_a_store(original, registry, s3_url, s3_settings, tmp_path):
    folder = original.export(tmp_path / "exported")
    if registry.url.startswith("s3"):
        shared = open_store(s3_url, s3_settings).below("exports")
        for path in folder.iterdir():
            shared.upload(path.name, path)
        assert registry.import_version(shared.url, model_name="other").content_digest == original.content_digest
    else:
        assert registry.import_version(folder.as_uri(), model_name="other").content_digest == original.content_digest


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        (lambda folder: (folder / "config.json").write_text("{}"), "changed: config.json"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "missing: tokenizer.json"),
        (lambda folder: (folder / "notes.txt").write_text("mine"), "added: notes.txt"),
    ],
)
def test_an_export_that_was_edited_is_refused_and_named(file_registry, classifier, tmp_path, edit, told):
    version = file_registry.log_folder(classifier, model_name="finbert", version_name="v1", task=TASK)
    folder = version.export(tmp_path / "exported")
    edit(folder)
    with pytest.raises(DigestMismatchError, match=told):
        file_registry.import_version(folder, model_name="other")
    assert [model.name for model in file_registry.models()] == ["finbert"]


def test_a_manifest_that_was_edited_or_is_not_there_is_refused(file_registry, classifier, tmp_path):
    version = file_registry.log_folder(classifier, model_name="finbert", version_name="v1", task=TASK)
    folder = version.export(tmp_path / "exported")
    document = folder / "hfreg_manifest.json"
    plain = json.loads(document.read_text())
    plain["pipeline"]["parameters"] = {"top_k": 5}
    document.write_text(json.dumps(plain))
    with pytest.raises(UnknownFormatError, match="was changed after it was published"):
        file_registry.import_version(folder, model_name="other")
    document.write_text("{")
    with pytest.raises(UnknownFormatError, match="no document of this package"):
        file_registry.import_version(folder, model_name="other")
    document.unlink()
    with pytest.raises(UnknownFormatError, match="it is no exported version"):
        file_registry.import_version(folder, model_name="other")


@pytest.mark.parametrize("part", ["logged_by", "environment", "lineage", "logged"])
def test_a_token_that_was_written_into_an_exported_manifest_is_refused(file_registry, classifier, tmp_path, part):
    version = file_registry.log_folder(classifier, model_name="finbert", version_name="v1", task=TASK)
    folder = version.export(tmp_path / "exported")
    document = folder / "hfreg_manifest.json"
    plain = json.loads(document.read_text())
    inner = plain[part]["tags"] if part == "logged" else plain[part]
    inner["note"] = "hf_" + "a" * 34
    document.write_text(json.dumps(plain))
    with pytest.raises(UnsafeModelError, match=r"hfreg_manifest\.json\[.*\['note'\] holds a Hugging Face token"):
        file_registry.import_version(folder, model_name="other")
    assert [model.name for model in file_registry.models()] == ["finbert"]


@pytest.mark.parametrize(
    "changes",
    [
        lambda manifest: {"options": {**manifest.options, "cuda_version": "hf_" + "a" * 34}},
        lambda manifest: {"spec": replace(manifest.spec, parameters={"prefix": "hf_" + "a" * 34})},
        lambda manifest: {"functions": tuple(map(with_a_token, manifest.functions))},
    ],
    ids=["options", "pipeline", "functions"],
)
def test_a_token_in_what_an_exported_manifests_digest_covers_is_refused(file_registry, classifier, tmp_path, changes):
    version = file_registry.log_folder(classifier, model_name="finbert", version_name="v1", task=TASK)
    folder = version.export(tmp_path / "exported")
    edited = replace(version.manifest, **changes(version.manifest))
    (folder / "hfreg_manifest.json").write_bytes(edited.to_bytes())
    with pytest.raises(UnsafeModelError, match=r"hfreg_manifest\.json\[.* holds a Hugging Face token"):
        file_registry.import_version(folder, model_name="other")


def with_a_token(function):
    [first, *others] = function.signature.params
    params = (replace(first, default_value="hf_" + "a" * 34), *others)
    return replace(function, signature=replace(function.signature, params=params))


def test_an_export_with_python_needs_consent_and_one_with_a_pickle_is_refused(file_registry, classifier, tmp_path):
    folder = tmp_path / "own"
    shutil.copytree(classifier, folder)
    (folder / "own.py").write_text("print('hello')\n")
    version = file_registry.log_folder(
        folder, model_name="finbert", version_name="v1", task=TASK, trust_remote_code=True
    )
    exported = version.export(tmp_path / "exported")
    with pytest.raises(UnsafeModelError, match="If you have read and trust it"):
        file_registry.import_version(exported, model_name="other")
    assert file_registry.import_version(exported, model_name="other", trust_remote_code=True).created
    (exported / "weights.pkl").write_bytes(b"\x80\x04.")
    with pytest.raises(UnsafeModelError, match=r"weights\.pkl"):
        file_registry.import_version(exported, model_name="third", trust_remote_code=True)
