"""Names and keys."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_hfreg.errors import InvalidNameError, ModelReferenceError, UnknownFormatError
from airflow_provider_hfreg.storage.base import check_key
from airflow_provider_hfreg.versions.layout import (
    Layout,
    ModelReference,
    check_alias,
    check_name,
    digest_hex,
    is_name,
    parse_reference,
)

names = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,20}[A-Za-z0-9])?", fullmatch=True)


@given(names, names)
def test_every_key_of_a_name_is_a_key_of_a_store(model_name, version_name):
    for key in (
        Layout.head(model_name),
        Layout.manifest(model_name, version_name),
        Layout.state(model_name, version_name),
    ):
        assert check_key(key) == key


@given(names, names)
def test_a_manifests_key_tells_its_version(model_name, version_name):
    assert Layout.version_of(Layout.manifest(model_name, version_name)) == version_name


@given(names, names)
def test_a_reference_is_read_as_it_was_written(model_name, other):
    for reference in (
        ModelReference(model_name),
        ModelReference(model_name, version_name=other),
        ModelReference(model_name, alias=other),
    ):
        assert parse_reference(str(reference)) == reference


@given(st.text())
def test_a_text_is_a_name_or_refused(text):
    if is_name(text):
        assert check_name(text, "model") == text
        assert text.isascii()
    else:
        with pytest.raises(InvalidNameError):
            check_name(text, "model")


def test_a_hub_id_is_no_model_name_and_the_message_offers_one():
    with pytest.raises(InvalidNameError, match="'ProsusAI-finbert' would do"):
        check_name("ProsusAI/finbert", "model")


@pytest.mark.parametrize(
    "text", ["caf\u00e9", "cafe\u0301", "50%25", "a b", ".", "..", "v1.", "-v1", "v1\n", "finbert@x"]
)
def test_a_name_with_two_spellings_or_a_hidden_one_is_refused(text):
    with pytest.raises(InvalidNameError, match="letters A-Z"):
        check_name(text, "version")


@pytest.mark.parametrize("alias", ["FIRST", "last", "Default"])
def test_a_system_alias_cannot_be_set(alias):
    with pytest.raises(InvalidNameError, match="reserved"):
        check_alias(alias)


@pytest.mark.parametrize("text", ["", "/", "a/", "@b", "a/b/c", "a@b@c", "a/b@c", "s3://bucket/a", "a b/c", " finbert"])
def test_what_is_no_reference_says_how_one_looks(text):
    with pytest.raises(ModelReferenceError, match="model/version"):
        parse_reference(text)


@pytest.mark.parametrize(
    "digest", ["sha256:" + "a" * 63, "sha256:" + "A" * 64, "md5:" + "a" * 64, "sha256:../" + "a" * 61]
)
def test_only_a_digest_becomes_part_of_a_path(digest):
    with pytest.raises(UnknownFormatError):
        digest_hex(digest)
