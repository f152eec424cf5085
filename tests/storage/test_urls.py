"""URLs: what they mean, what is refused, and that opening a folder loads no boto3."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_hfreg.errors import StorageUrlError
from airflow_provider_hfreg.storage.local import LocalStore
from airflow_provider_hfreg.storage.s3 import S3Store
from airflow_provider_hfreg.storage.urls import StoreUrl, key_matches, open_store, parse_url, split_glob


@pytest.mark.parametrize(
    ("url", "parsed"),
    [
        ("s3://bucket", StoreUrl("s3", "bucket", "")),
        ("s3://bucket/", StoreUrl("s3", "bucket", "")),
        ("s3://bucket/a/b/", StoreUrl("s3", "bucket", "a/b")),
        ("s3://bucket/100%25 raw", StoreUrl("s3", "bucket", "100%25 raw")),
        ("file:///", StoreUrl("file", "", "/")),
        ("file:///srv/hfreg/", StoreUrl("file", "", "/srv/hfreg")),
        ("file://localhost/srv", StoreUrl("file", "", "/srv")),
        ("file:///a%20b/%ED%95%9C", StoreUrl("file", "", "/a b/한")),
    ],
)
def test_a_url_is_parsed(url, parsed):
    assert parse_url(url) == parsed


@pytest.mark.parametrize(
    "url",
    [
        *("", "s3:/bucket", "s3://", "s3:///key", "gs://bucket", "/srv/hfreg", "hfreg", "file://srv/hfreg"),
        *("s3://bucket/a/../b", "s3://bucket/a//b", "file:///srv/../etc", "file:///srv/%2e%2e/etc", "S3://bucket"),
    ],
)
def test_what_is_no_url_is_refused(url):
    with pytest.raises(StorageUrlError):
        parse_url(url)


def test_a_plain_path_is_answered_with_the_url_it_means():
    with pytest.raises(StorageUrlError, match=r"Did you mean file:///srv/hfreg\?"):
        parse_url("/srv/hfreg")


def test_credentials_in_a_url_are_refused_and_not_repeated():
    with pytest.raises(StorageUrlError) as caught:
        parse_url("s3://AKIAEXAMPLE:verysecret@bucket/prefix")
    assert "verysecret" not in str(caught.value)
    assert "AKIAEXAMPLE" not in str(caught.value)


_NAMES = st.text(st.characters(exclude_characters="/\\\0", exclude_categories=["Cs"]), min_size=1, max_size=8)
_PATHS = st.lists(_NAMES.filter(lambda name: name not in (".", "..")), min_size=1, max_size=4)


@given(_PATHS)
def test_a_folder_survives_the_way_through_its_url(names):
    path = Path("/", *names)
    assert parse_url(path.as_uri()).path == str(path)
    assert parse_url(str(parse_url(path.as_uri()))).path == str(path)


@given(_PATHS)
def test_an_s3_url_is_taken_letter_by_letter(names):
    url = "s3://bucket/" + "/".join(names)
    assert str(parse_url(url)) == url


@pytest.mark.parametrize(
    ("url", "root", "name"),
    [
        ("s3://b/in/*.parquet", "s3://b/in", "*.parquet"),
        ("s3://b/*.parquet", "s3://b", "*.parquet"),
        ("s3://b/in/**/part-?.csv", "s3://b/in", "**/part-?.csv"),
        ("s3://b/i[n]/x.csv", "s3://b", "i[n]/x.csv"),
        ("s3://b/in/x.csv", "s3://b/in", "x.csv"),
        ("s3://b/in", "s3://b", "in"),
        ("s3://b/in/", "s3://b/in", ""),
        ("s3://b", "s3://b", ""),
        ("file:///data/*.csv", "file:///data", "*.csv"),
        ("file:///rows.csv", "file:///", "rows.csv"),
        ("file:///data/in/", "file:///data/in", ""),
        ("file:///my%20data/a%20b.csv", "file:///my data", "a b.csv"),
    ],
)
def test_inputs_are_split_into_a_root_and_what_to_look_for(url, root, name):
    assert split_glob(url) == (root, name)


@pytest.mark.parametrize(
    ("pattern", "key", "matches"),
    [
        ("*.csv", "a.csv", True),
        ("*.csv", "a.csv.gz", False),
        ("*.csv", "x/a.csv", False),
        ("**/*.csv", "a.csv", True),
        ("**/*.csv", "x/y/a.csv", True),
        ("day=*/part-?.parquet", "day=1/part-2.parquet", True),
        ("day=*/part-?.parquet", "day=1/part-22.parquet", False),
        ("in/**", "in/a/b", True),
        ("[!a]*", "b", True),
        ("[!a]*", "a", False),
        ("a+(b).csv", "a+(b).csv", True),
        ("[", "[", True),
        ("[^a]", "a", True),
        ("a.csv", "abcsv", False),
        ("*", "new\nline", True),
    ],
)
def test_a_pattern_matches_within_segments(pattern, key, matches):
    assert key_matches(pattern, key) is matches


def test_a_url_opens_its_store(tmp_path):
    assert isinstance(open_store(tmp_path.as_uri()), LocalStore)
    assert isinstance(open_store("s3://bucket/prefix"), S3Store)
    assert open_store("s3://bucket/prefix/").url == "s3://bucket/prefix"


def test_a_folder_is_opened_without_boto3():
    program = (
        "import sys; from airflow_provider_hfreg.storage.urls import open_store; "
        "from airflow_provider_hfreg.storage.settings import S3Settings; "
        "open_store('file:///srv'); assert 'boto3' not in sys.modules and 'botocore' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
