"""The page that describes the bucket: its reader reads, and its documents are ours."""

import hashlib
import json
import re
from pathlib import Path

import pytest

from airflow_provider_hfreg.errors import StorageUnavailableError
from airflow_provider_hfreg.storage.local import LocalStore
from airflow_provider_hfreg.testing.faults import Fault, Faults, FaultyStore, raising
from airflow_provider_hfreg.versions.documents import read_document
from airflow_provider_hfreg.versions.garbage import collect
from airflow_provider_hfreg.versions.layout import Layout
from airflow_provider_hfreg.versions.leases import Lease
from airflow_provider_hfreg.versions.manifest import Manifest
from airflow_provider_hfreg.versions.refs import Head, State
from airflow_provider_hfreg.versions.terms import Terms

PAGE = Path(__file__).parents[2] / "docs" / "format.md"


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text("utf-8"), flags=re.DOTALL)


@pytest.fixture
def read_version():
    (program,) = blocks("python")
    names = {}
    exec(compile(program, PAGE.name, "exec"), names)
    return names["read_version"]


@pytest.mark.parametrize("reference", ["finbert/v1", "finbert@champion", "finbert"])
def test_the_pages_reader_reads_what_the_registry_wrote(read_version, file_registry, classifier, tmp_path, reference):
    for number in (1, 2):
        file_registry.log_folder(
            classifier,
            model_name="finbert",
            version_name=f"v{number}",
            task="text-classification",
            pipeline_kwargs={"top_k": number},
        )
    file_registry.get_model("finbert").set_alias("champion", "v2")
    expected = file_registry.resolve(reference)
    folder = Path(file_registry.url.removeprefix("file://"))
    manifest = read_version(folder, reference, tmp_path / "read")
    assert manifest["content_digest"] == expected.content_digest
    assert all((tmp_path / "read" / file.path).stat().st_size == file.size_bytes for file in expected.manifest.files)


def test_the_pages_documents_have_the_keys_of_ours(file_registry, classifier):
    manifest, state, head, format_document, *_ = (json.loads(block) for block in blocks("json"))
    mv = file_registry.log_folder(classifier, model_name="finbert", task="text-classification")
    ours = json.loads(mv.manifest.to_bytes())
    assert set(manifest) == set(ours)
    for key in ("pipeline", "logged", "options"):
        assert set(manifest[key]) == set(ours[key])
    assert set(manifest["files"][0]) == set(ours["files"][0])
    assert Head.from_plain(head).to_bytes() == read_back(head)
    assert State.from_plain(state).to_bytes() == read_back(state)
    folder = Path(file_registry.url.removeprefix("file://"))
    assert set(format_document) == set(json.loads((folder / "format.json").read_bytes()))


def test_the_pages_lease_and_marker_are_as_we_write_them(file_registry, classifier):
    *_, lease, marker = (json.loads(block) for block in blocks("json"))
    store = LocalStore(file_registry.url)
    with Lease(store, "writer", lease["digests"], Terms().lease_s):
        assert json.loads(store.get(Layout.lease("writer"))) == lease
    file_registry.log_folder(classifier, model_name="finbert", task="text-classification")
    file_registry.get_model("finbert").delete()
    killed = FaultyStore(store, Faults(Fault("delete", raising(StorageUnavailableError("killed")), key="blobs/")))
    with pytest.raises(StorageUnavailableError):
        collect(killed, dry_run=False)
    markers = [json.loads(store.get(info.key)) for info in store.list_infos(Layout.CONDEMNED)]
    assert markers
    assert all(found == marker for found in markers)


def test_the_content_digest_of_the_page_is_what_the_page_says_it_is():
    document = json.loads(blocks("json")[0])
    pipeline = document["pipeline"]
    content = {
        **{key: pipeline[key] for key in ("task", "parameters", "generation", "dtype", "attn_implementation")},
        "remote_code": pipeline["remote_code"],
        "family": pipeline["transformers_version"].split(".")[0],
        "functions": document["functions"],
        "options": document["options"],
        "files": {file["path"]: file["digest"] for file in document["files"]},
    }
    named = re.search(r"canonical JSON of `\{(.*?)\}`", PAGE.read_text("utf-8"), flags=re.DOTALL)[1]
    assert list(content) == re.findall(r'"(\w+)"', named)
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    assert document["content_digest"] == "sha256:" + hashlib.sha256(canonical).hexdigest()
    assert Manifest.from_bytes(json.dumps(document).encode(), "the page").content_digest == document["content_digest"]


def read_back(document):
    content = json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
    assert read_document(content, "the page") == document
    return content
