"""Parts with structs instead of JSON text: types that any reader of Parquet sees, and no run that mixes the two."""

import json

import pyarrow as pa
import pytest

from airflow_provider_hfreg.errors import InputChangedError, RunCancelledError

KIND = pa.list_(pa.struct([("label", pa.string()), ("score", pa.float64())]))


@pytest.fixture(scope="module")
def lists(registry, tmp_path_factory):
    """A tiny text classifier that gives two labels."""
    from airflow_provider_hfreg.testing.models import text_classifier

    folder = text_classifier(tmp_path_factory.mktemp("classifier") / "model")
    return registry.log_folder(
        folder, model_name="lists", version_name="v1", task="text-classification", pipeline_kwargs={"top_k": 2}
    )


def test_a_part_holds_the_objects_that_the_text_would(place, texts, lists):
    rows = [(number, None if number == 13 else text) for number, text in texts(25)]
    place.put_csv("in/a.csv", rows)
    place.run(version=lists)
    text = place.result()
    report = place.run(version=lists, output_format="struct")  # a finished run of the same task is replaced
    result = place.result()
    assert (report.rows_ok, report.rows_quarantined) == (24, 1)
    assert (result.schema.field("outputs").type, result["id"]) == (KIND, text["id"])
    assert result["outputs"].to_pylist() == [json.loads(row) for row in text["outputs"].to_pylist()]
    (error,) = place.errors(report)
    assert (error["row"], error["values"]) == (13, {"id": "13", "text": None})


@pytest.mark.parametrize("rows", [[], [(0, None)]])
def test_a_part_without_a_row_has_the_type_too(file_place, rows, lists):
    file_place.put_csv("in/a.csv", rows)
    file_place.run(version=lists, output_format="struct", output_prefix="m_", passthrough=[], max_row_errors=1.0)
    assert file_place.result().schema == pa.schema([("m_outputs", KIND)])
    assert file_place.result().num_rows == 0


def test_an_unfinished_run_goes_on_in_its_own_format_alone(file_place, texts, lists):
    file_place.put_csv("in/a.csv", texts(40))
    with pytest.raises(RunCancelledError):
        file_place.run(version=lists, output_format="struct", cancelled=lambda: len(file_place.parts()) >= 2)
    with pytest.raises(InputChangedError, match="the request changed"):
        file_place.run(version=lists)
    report = file_place.run(version=lists, output_format="struct")
    assert report.shards_resumed == 2
    assert file_place.result().schema.field("outputs").type == KIND
    assert file_place.ids() == list(range(40))
