"""A request is refused by the name of its option; what changes results changes the fingerprint, and nothing else."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_hfreg.errors import InvalidRunOptionError
from airflow_provider_hfreg.runs.inputs import InputFile
from airflow_provider_hfreg.runs.spec import (
    BatchRequest,
    Fingerprint,
    batch_run_id,
    check_request,
    derived_seed,
    identity_prefix,
    most_row_errors,
)

REQUEST = BatchRequest(input="file:///in.csv", output="file:///out")
FILES = [InputFile("in.csv", 3, "etag")]


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("input", ""),
        ("output", None),
        ("input_format", "xml"),
        ("columns", {"text": 1}),
        ("columns", "text"),
        ("passthrough", "id"),
        ("passthrough", ["id", "id"]),
        ("output_prefix", None),
        ("params", {"a": object()}),
        ("params", {"a": float("nan")}),
        ("function_name", ""),
        ("output_format", "arrow"),
        ("output_format", None),
        ("on_row_error", "ignore"),
        ("max_row_errors", 1.5),
        ("max_row_errors", -1),
        ("max_row_errors", True),
        ("if_output_exists", "overwrite"),
        ("rows_per_shard", 0),
        ("rows_per_shard", 10.0),
        ("token_budget", 0),
        ("precision", "int8"),
        ("precision", ["bf16"]),
        ("threads", 0),
        ("threads", True),
        ("trust_remote_code", "yes"),
        ("seed", -1),
        ("seed", 2**63),
    ],
)
def test_an_option_that_cannot_be_is_named(option, value):
    with pytest.raises(InvalidRunOptionError, match=rf"^{option} must be "):
        check_request(replace(REQUEST, **{option: value}))


@pytest.mark.parametrize("max_row_errors", [None, 0, 5, 0.0, 0.5, 1.0])
def test_limits_may_be_numbers_or_shares(max_row_errors):
    check_request(replace(REQUEST, max_row_errors=max_row_errors))


def test_a_request_survives_json():
    request = replace(REQUEST, passthrough=("a",), columns={"text": "body"}, params={"top_k": 2}, seed=7)
    assert BatchRequest.from_json(request.to_json()).to_json() == request.to_json()


@pytest.mark.parametrize(
    "change",
    [
        {"input": "file:///other.csv"},
        {"input_format": "csv"},
        {"columns": {"text": "body"}},
        {"passthrough": ["id"]},
        {"output_prefix": "p_"},
        {"params": {"top_k": 2}},
        {"function_name": "other"},
        {"output_format": "struct"},
        {"precision": "bfloat16"},
        {"seed": 1},
    ],
)
def test_what_changes_a_result_changes_the_fingerprint(change):
    before = Fingerprint.of("sha256:1", REQUEST, FILES)
    after = Fingerprint.of("sha256:1", replace(REQUEST, **change), FILES)
    assert after.differences(before) == ["the request"]
    assert batch_run_id("me", after) != batch_run_id("me", before)


@pytest.mark.parametrize(
    "change",
    [
        {"output": "file:///elsewhere"},
        {"on_row_error": "fail"},
        {"max_row_errors": 3},
        {"if_output_exists": "append"},
        {"rows_per_shard": 7},
        {"token_budget": 512},
        {"threads": 2},
        {"trust_remote_code": True},
    ],
)
def test_a_policy_or_a_size_does_not(change):
    assert Fingerprint.of("sha256:1", replace(REQUEST, **change), FILES) == Fingerprint.of("sha256:1", REQUEST, FILES)


def test_a_precision_is_one_by_each_of_its_names_and_none_is_the_fingerprint_of_before_there_was_a_choice():
    short, whole = (replace(REQUEST, precision=name) for name in ("bf16", "bfloat16"))
    assert Fingerprint.of("sha256:1", short, FILES) == Fingerprint.of("sha256:1", whole, FILES)
    before = "e5f77f3c70fd5aaff4563e806bd34ca555a2890038458fb7dc86d56d8cf19ea4"
    assert Fingerprint.of("sha256:1", REQUEST, FILES).request == before


def test_another_file_or_version_changes_it_and_is_told():
    before = Fingerprint.of("sha256:1", REQUEST, FILES)
    after = Fingerprint.of("sha256:2", REQUEST, [InputFile("in.csv", 3, "changed")])
    assert after.differences(before) == ["the model version", "the input files"]


def test_ids_of_one_identity_share_a_prefix_and_no_other_has_it():
    one = Fingerprint.of("sha256:1", REQUEST, FILES)
    assert batch_run_id("me", one, 2) == f"{identity_prefix('me')}{one.hexdigest[:10]}-2"
    assert not batch_run_id("you", one).startswith(identity_prefix("me"))


def test_the_seed_is_fixed_by_what_is_run():
    one = Fingerprint.of("sha256:1", REQUEST, FILES)
    assert derived_seed(one) == derived_seed(Fingerprint.of("sha256:1", REQUEST, FILES))
    assert derived_seed(one) != derived_seed(Fingerprint.of("sha256:2", REQUEST, FILES))


@given(st.integers(0, 99), st.integers(0, 10**6))
def test_a_share_of_so_many_hundredths_is_that_number_of_rows(hundredths, rows):
    assert most_row_errors(hundredths / 100, rows) == hundredths * rows // 100
