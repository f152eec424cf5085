"""Shards hold each row once, and a plan is the same after it was stored."""

import json

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_hfreg.errors import (
    ColumnMissingError,
    ColumnTypeError,
    InputFormatError,
    InvalidRunOptionError,
    RunCancelledError,
    UnknownFormatError,
)
from airflow_provider_hfreg.runs import layout
from airflow_provider_hfreg.runs.columns import plan_columns
from airflow_provider_hfreg.runs.inputs import TableFormat
from airflow_provider_hfreg.runs.outputs import look
from airflow_provider_hfreg.runs.plan import RunDocument, pack_shards
from airflow_provider_hfreg.runs.planning import plan_run
from airflow_provider_hfreg.runs.spec import BatchRequest
from airflow_provider_hfreg.runs.tables import READERS
from airflow_provider_hfreg.runs.tables.base import FileScan
from airflow_provider_hfreg.runs.tables.ranges import even_ranges
from airflow_provider_hfreg.signatures.features import DataType, FeatureSpec
from airflow_provider_hfreg.signatures.signature import ModelSignature

SIGNATURE = ModelSignature(
    (FeatureSpec("text", DataType.STRING), FeatureSpec("text_pair", DataType.STRING)),
    (FeatureSpec("label", DataType.STRING), FeatureSpec("score", DataType.DOUBLE)),
)
OPTIONAL = frozenset({"text_pair"})


@given(st.lists(st.integers(0, 25), max_size=10), st.integers(1, 9))
def test_shards_hold_each_row_once_in_order(file_rows, rows_per_shard):
    shards = pack_shards([even_ranges(rows, rows_per_shard) for rows in file_rows], rows_per_shard)
    rows = [
        (piece.file, piece.range.first_row + row)
        for shard in shards
        for piece in shard.slices
        for row in range(piece.range.rows)
    ]
    assert rows == [(file, row) for file, count in enumerate(file_rows) for row in range(count)]
    assert [shard.index for shard in shards] == list(range(len(shards)))
    assert all(0 < shard.rows <= rows_per_shard for shard in shards) or (len(shards), sum(file_rows)) == (1, 0)
    assert [shard.first_row for shard in shards] == [sum(s.rows for s in shards[:n]) for n in range(len(shards))]


def plan(scans, *, reader=TableFormat.PARQUET, **options):
    request = BatchRequest(input="file:///in", output="file:///out", **options)
    return plan_columns(request, SIGNATURE, OPTIONAL, scans, READERS[reader])


def scan(columns, *, is_open=False):
    return FileScan(columns, even_ranges(3, 10), is_open=is_open)


TABLE = {"id": pa.int64(), "text": pa.string(), "at": pa.timestamp("us")}


def test_all_columns_are_passed_through_unless_told_and_come_before_the_models():
    columns = plan({"a": scan(TABLE)})
    assert columns.output.names == ["id", "text", "at", "label", "score"]
    assert columns.output.field("at").type == pa.timestamp("us")
    assert columns.binding == {"text": "text", "text_pair": None}


def test_only_columns_that_are_needed_are_read():
    columns = plan({"a": scan(TABLE)}, passthrough=["at"])
    assert (columns.read.schema.names, columns.output.names) == (["at", "text"], ["at", "label", "score"])
    assert plan({"a": scan(TABLE)}, passthrough=[]).output.names == ["label", "score"]


def test_names_that_clash_are_refused_with_the_way_out():
    table = {**TABLE, "label": pa.string()}
    with pytest.raises(InvalidRunOptionError, match=r"two columns 'label'.*output_prefix.*passthrough"):
        plan({"a": scan(table)})
    assert plan({"a": scan(table)}, output_prefix="m_").output.names[-2:] == ["m_label", "m_score"]
    with pytest.raises(InvalidRunOptionError, match="two columns 'm_label'"):
        plan({"a": scan({**table, "m_label": pa.string()})}, output_prefix="m_")


def test_a_column_that_is_missing_is_named():
    with pytest.raises(ColumnMissingError, match="'text'"):
        plan({"a": scan({"id": pa.int64(), "body": pa.string()})})
    with pytest.raises(ColumnMissingError, match="passthrough names the column 'nope'"):
        plan({"a": scan(TABLE)}, passthrough=["nope"])


def test_a_column_of_an_unreadable_type_is_refused_before_any_row():
    with pytest.raises(ColumnTypeError, match="'text'"):
        plan({"a": scan({"text": pa.struct([("x", pa.int64())])})})


def test_files_that_disagree_are_named_with_the_column():
    with pytest.raises(InputFormatError, match=r"a has the column 'id', b does not"):
        plan({"a": scan(TABLE), "b": scan({"text": pa.string(), "at": pa.timestamp("us")})})
    with pytest.raises(InputFormatError, match=r"'id' is int64 in a and string in b"):
        plan({"a": scan(TABLE), "b": scan({**TABLE, "id": pa.string()})})
    plan({"a": scan(TABLE), "b": scan({"text": pa.string(), "id": pa.int64()})}, passthrough=["id"])


def test_an_optional_column_in_some_files_alone_is_not_silently_dropped():
    with pytest.raises(InputFormatError, match="'text_pair'"):
        plan({"a": scan(TABLE), "b": scan({**TABLE, "text_pair": pa.string()})}, passthrough=[])


def test_columns_of_jsonl_are_those_of_all_files_and_what_differs_is_text():
    scans = {
        "a": scan({"text": pa.string(), "n": pa.int64()}, is_open=True),
        "b": scan({"text": pa.int64(), "n": pa.bool_(), "m": pa.null()}, is_open=True),
    }
    columns = plan(scans, reader=TableFormat.JSONL)
    types = {column.name: str(column.type) for column in columns.read.schema}
    assert types == {"text": "string", "n": "string", "m": "string"}
    assert columns.read.as_text == {"n", "m"}  # a text for the model must be one


def test_an_input_without_any_row_still_has_a_schema():
    columns = plan({"a": FileScan({}, (), is_open=True)}, reader=TableFormat.JSONL, passthrough=["id"])
    assert columns.output.names == ["id", "label", "score"]


def test_a_plan_is_the_same_after_it_was_stored(file_place, texts):
    place = file_place
    place.put("in/a.parquet", pa.table({"text": ["a", "b"], "at": pa.array([1, 2], pa.timestamp("us", "UTC"))}))
    place.put("in/b.parquet", pa.table({"text": ["c"], "at": pa.array([3], pa.timestamp("us", "UTC"))}))
    ask = place.ask(rows_per_shard=2)
    document = plan_run(
        ask.request,
        ask.version,
        batch_run_id="x",
        identity="me",
        fingerprint=ask.fingerprint,
        registry_url="file:///r",
        inputs=ask.inputs,
        files=ask.files,
        replaces=["y"],
    )
    again = RunDocument.from_bytes(document.to_bytes(), where="run.json")
    assert again.to_bytes() == document.to_bytes()
    assert (again.shards, again.files, again.columns.output) == (
        document.shards,
        document.files,
        document.columns.output,
    )
    assert [again.file_of_row(row).key for row in range(3)] == ["in/a.parquet", "in/a.parquet", "in/b.parquet"]
    with pytest.raises(UnknownFormatError, match="format version 2"):
        RunDocument.from_bytes(
            document.to_bytes().replace(b'"format_version": 1', b'"format_version": 2'), where="run.json"
        )


@pytest.fixture
def interrupted(file_place, texts):
    """The place of a run that was stopped after a shard; its plan's key; its plan."""
    file_place.put_csv("in/a.csv", texts(30))
    with pytest.raises(RunCancelledError):
        file_place.run(cancelled=lambda: len(file_place.parts()) >= 1)
    (run,) = look(file_place.output, own_prefix="").runs
    key = layout.run_key(run.batch_run_id)
    return file_place, key, json.loads(file_place.output.get(key))


def without(name):
    return lambda plain: json.dumps({key: value for key, value in plain.items() if key != name}).encode()


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (lambda plain: json.dumps(plain).encode()[:-100], "JSONDecodeError"),
        (lambda _: b"", "JSONDecodeError"),
        (lambda _: b"[]", "AttributeError"),
        (without("seed"), "'seed'"),
        (lambda plain: without("input")(plain["request"]), "format version None"),
        (lambda plain: json.dumps(plain | {"request": {}}).encode(), "'input'"),
        (
            lambda plain: json.dumps(plain | {"columns": plain["columns"] | {"output": {"arrow_ipc": "AAAA"}}}),
            "Arrow|OS",
        ),
    ],
)
def test_a_cut_plan_is_named_with_the_way_out(interrupted, broken, said):
    _, key, plain = interrupted
    content = broken(plain)
    with pytest.raises(UnknownFormatError, match=rf"(?s){key}.*({said}).*rerun=True"):
        RunDocument.from_bytes(content if isinstance(content, bytes) else content.encode(), where=key)


def test_a_run_whose_plan_is_cut_is_done_over_with_rerun(interrupted):
    place, key, _ = interrupted
    place.output.put(key, place.output.get(key)[:-100])
    with pytest.raises(UnknownFormatError, match="rerun=True"):
        place.run()
    assert place.run(rerun=True).batch_run_id.endswith("-1")
    assert place.ids() == list(range(30))


def test_what_only_a_newer_package_knows_is_left_out(interrupted):
    place, key, plain = interrupted
    newer = plain | {name: plain[name] | {"new": 1} for name in ("fingerprint", "request", "version")}
    newer["files"] = [file | {"new": 1} for file in plain["files"]]
    place.output.put(key, json.dumps(newer | {"new": 1}).encode())
    assert place.run().shards_resumed == 1
    assert place.ids() == list(range(30))
