"""JSON with one text for one value."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_hfreg.errors import InvalidOptionError, UnknownFormatError
from airflow_provider_hfreg.versions.documents import canonical_json, document_json, plain_json, read_document

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(values)
def test_canonical_json_is_read_back_and_written_the_same(value):
    try:
        content = canonical_json(value)
    except UnicodeEncodeError:  # a lone surrogate is no text
        return
    assert canonical_json(json.loads(content)) == content


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), st.integers()))
def test_the_order_of_keys_makes_no_difference(value):
    assert canonical_json(dict(reversed(value.items()))) == canonical_json(value)


def test_a_document_of_a_newer_format_is_refused_by_saying_to_upgrade():
    with pytest.raises(UnknownFormatError, match=r"s3://b/head.json has format version 2; .* Upgrade"):
        read_document(b'{"format_version": 2}', "s3://b/head.json")


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"null", b"\xff", b'{"format_version": "1"}'])
def test_what_is_no_document_is_refused(content):
    with pytest.raises(UnknownFormatError):
        read_document(content, "s3://b/head.json")


def test_unknown_keys_of_a_known_format_are_left_to_be_ignored():
    assert read_document(document_json({"later": 1}), "here")["later"] == 1


def test_numbers_of_numpy_become_plain_ones():
    plain = plain_json(
        {"f1": np.float32(0.5), "n": np.int64(3), "rows": np.array([[1, 2]]), "pair": (1, None)}, "metrics"
    )
    assert json.dumps(plain) == '{"f1": 0.5, "n": 3, "rows": [[1, 2]], "pair": [1, null]}'


@pytest.mark.parametrize("value", [math.nan, math.inf, np.float64("nan"), object(), {1, 2}, b"bytes"])
def test_what_json_cannot_hold_is_refused_by_its_path(value):
    with pytest.raises(InvalidOptionError, match=r"metrics\['runs'\]\[1\]\['loss'\]"):
        plain_json({"runs": [{}, {"loss": value}]}, "metrics")
