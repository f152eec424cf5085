"""A file, a folder or a glob becomes a list of files in natural order, the same on every store."""

import pytest

from airflow_provider_hfreg.errors import InputFormatError, InputNotFoundError
from airflow_provider_hfreg.runs.inputs import TableFormat, format_of, list_input


def keys(place, key):
    return [file.key for file in list_input(place.store, key)]


@pytest.fixture
def filled(place):
    for key in (
        "in/p-10.csv",
        "in/p-2.csv",
        "in/day=1/p-1.csv",
        "in/_SUCCESS",
        "in/.x.csv",
        "in/_tmp/p.csv",
        "in2/a.csv",
    ):
        place.store.put(key, b"a\n1\n")
    return place


def test_a_folder_is_all_its_visible_files_in_natural_order(filled):
    assert keys(filled, "in") == ["in/day=1/p-1.csv", "in/p-2.csv", "in/p-10.csv"]
    assert keys(filled, "in/") == keys(filled, "in")


def test_a_file_is_itself(filled):
    assert keys(filled, "in/p-2.csv") == ["in/p-2.csv"]


def test_a_glob_stays_inside_a_segment_unless_told(filled):
    assert keys(filled, "in/*.csv") == ["in/p-2.csv", "in/p-10.csv"]
    assert keys(filled, "in/**/*.csv") == ["in/day=1/p-1.csv", "in/p-2.csv", "in/p-10.csv"]
    assert keys(filled, "in/p-[0-9].csv") == ["in/p-2.csv"]


@pytest.mark.parametrize("key", ["none", "in/*.parquet", "in/_tmp"])
def test_no_file_is_an_error_that_names_the_input(file_place, key):
    file_place.store.put("in/_tmp/_p.csv", b"")
    with pytest.raises(InputNotFoundError, match="No input file at file://.*" + key.replace("*", r"\*")):
        list_input(file_place.store, key)


def test_two_formats_in_one_input_are_refused_by_both_names(file_place):
    for key in ("in/a.csv", "in/b.parquet"):
        file_place.store.put(key, b"x")
    with pytest.raises(InputFormatError, match=r"in/a\.csv and in/b\.parquet"):
        format_of(list_input(file_place.store, "in"), None)


@pytest.mark.parametrize("name", ["README", "a.txt", "a.csv.gz"])
def test_an_ending_that_says_nothing_is_never_skipped(file_place, name):
    file_place.store.put("in/a.csv", b"x")
    file_place.store.put(f"in/{name}", b"x")
    files = list_input(file_place.store, "in")
    with pytest.raises(InputFormatError, match=rf"format of in/{name} is not known"):
        format_of(files, None)
    assert format_of(files, "csv") is TableFormat.CSV
