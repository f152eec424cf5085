"""Folders named key=value are columns of their files' rows, as pyarrow and Spark read them."""

import json
from urllib.parse import quote

import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_hfreg.errors import InputFormatError
from airflow_provider_hfreg.runs.batch import run_batch
from airflow_provider_hfreg.runs.execute import read_shard
from airflow_provider_hfreg.runs.inputs import InputFile
from airflow_provider_hfreg.runs.partitions import NULL, find_partitions
from airflow_provider_hfreg.runs.plan import RunDocument
from airflow_provider_hfreg.runs.planning import plan_run
from airflow_provider_hfreg.runs.spec import BatchRequest, Fingerprint

FOLDERS = ["day=2026-01-01/lang=de%20at/hour=01", f"day=2026-01-02/lang={NULL}/hour=2", "day=2026-01-10/lang=1/hour=-3"]
EXPECTED = [("2026-01-01", "de at", 1), ("2026-01-02", None, 2), ("2026-01-10", "1", -3)]


def content(kind, ids):
    texts = [f"a good film {number}" for number in ids]
    if kind == "csv":
        return ("id,text\n" + "\n".join(f"{i},{t}" for i, t in zip(ids, texts, strict=True))).encode()
    if kind == "jsonl":
        return "\n".join(json.dumps({"id": i, "text": t}) for i, t in zip(ids, texts, strict=True)).encode()
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"id": ids, "text": texts}), sink)
    return sink.getvalue().to_pybytes()


def fill(place, kind, folders=FOLDERS):
    for number, folder in enumerate(folders):
        place.store.put(f"in/{folder}/part-0.{kind}", content(kind, [2 * number, 2 * number + 1]))


def partition_rows(place):
    table = place.result()
    return [tuple(row.values()) for row in table.select(["day", "lang", "hour"]).to_pylist()]


@pytest.mark.parametrize("kind", ["parquet", "csv", "jsonl"])
def test_folders_are_columns_of_every_format(place, kind):
    fill(place, kind)
    report = place.run()
    assert (report.rows_ok, place.ids()) == (6, list(range(6)))
    assert partition_rows(place) == [row for row in EXPECTED for _ in range(2)]
    schema = place.result().schema
    assert [str(schema.field(name).type) for name in ("day", "lang", "hour")] == ["string", "string", "int64"]


def planned(place, **options):
    """Plan, store, and read the plan again: what another process has."""
    ask = place.ask(**options)
    document = plan_run(
        ask.request,
        ask.version,
        batch_run_id="0123456789-0123456789",
        identity="me",
        fingerprint=ask.fingerprint,
        registry_url=ask.registry_url,
        inputs=ask.inputs,
        files=ask.files,
    )
    return RunDocument.from_bytes(document.to_bytes(), where="run.json"), ask


def test_a_glob_finds_partitions_and_a_plan_holds_their_values(place):
    fill(place, "parquet")
    document, ask = planned(
        place, input=f"{place.url}/in/day=2026-01-0*/lang=*/*/*.parquet", passthrough=["hour", "id"]
    )
    assert document.columns.read.schema.names == ["hour", "id", "text"]
    windows = list(read_shard(document, 0, ask.inputs, window_rows=100))
    assert [w.batch["hour"].to_pylist() for w in windows] == [[1, 1, 2, 2]]
    assert document.files[1].partition == {"day": "2026-01-02", "lang": None, "hour": 2}


@pytest.mark.parametrize("kind", ["parquet", "csv", "jsonl"])
def test_the_model_may_read_nothing_but_a_folders_name(file_place, kind):
    fill(file_place, kind)
    report = file_place.run(columns={"text": "hour"}, passthrough=["day"], max_row_errors=1.0)
    assert (report.rows_ok, report.rows_quarantined) == (6, 0)
    assert file_place.result().schema.names == ["day", "label", "score"]


def test_a_partition_that_is_null_quarantines_the_rows_that_need_it(file_place):
    fill(file_place, "csv")
    report = file_place.run(columns={"text": "lang"})
    assert (report.rows_ok, report.rows_quarantined) == (4, 2)
    assert [row["values"]["id"] for row in file_place.errors(report)] == ["2", "3"]


def test_the_folder_wins_over_a_column_of_the_file(file_place):
    file_place.store.put("in/id=7/a.csv", content("csv", [1, 2]))
    file_place.run()
    assert file_place.result()["id"].to_pylist() == [7, 7]


def test_what_the_input_names_itself_counts_only_when_asked(file_place):
    fill(file_place, "csv")
    day = f"{file_place.url}/in/day=2026-01-01/"
    assert planned(file_place, input=day)[0].columns.output.names == ["id", "text", "lang", "hour", "label", "score"]
    document, _ = planned(file_place, input=day, hive_partitioning=True)
    assert document.files[0].partition == {"day": "2026-01-01", "lang": "de at", "hour": 1}
    assert planned(file_place, hive_partitioning=False)[0].columns.output.names == ["id", "text", "label", "score"]


def test_asking_for_partitions_that_are_not_there_is_an_error(file_place):
    file_place.put_csv("in/a.csv", [(1, "a")])
    with pytest.raises(InputFormatError, match="no folder of the input is named key=value"):
        planned(file_place, hive_partitioning=True)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (["in/day=1/a.csv", "in/b.csv"], r"in/day=1/a\.csv has 'day', in/b\.csv has none.*hive_partitioning=False"),
        (["in/day=1/a.csv", "in/month=1/a.csv"], r"has 'day'.*has 'month'"),
        (["in/day=1/day=2/a.csv"], "'day' twice"),
        (["in/day=%FF/a.csv"], "no percent-encoded text"),
    ],
)
def test_folders_that_make_no_columns_are_refused(keys, message):
    with pytest.raises(InputFormatError, match=message):
        find_partitions([InputFile(key, 1, "") for key in keys], "in")
    assert not find_partitions([InputFile(key, 1, "") for key in keys], "in", hive_partitioning=False).types


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), min_size=1, max_size=5))
def test_values_are_those_that_pyarrow_reads(values):
    keys = [f"in/key={quote(value, safe='')}/a.csv" for value in values]
    ours = find_partitions([InputFile(key, 1, "") for key in keys], "in")
    reading = pyarrow.dataset.HivePartitioning(pa.schema([("key", pa.string())]))
    theirs = [pyarrow.dataset.get_partition_keys(reading.parse(f"{key.split('/')[1]}/")) for key in keys]
    assert list(ours.texts) == theirs


def test_a_dataset_that_pyarrow_wrote_is_read_as_pyarrow_reads_it(file_place, tmp_path):
    table = pa.table({"text": ["good", "bad", "dull"], "lang": ["de/at", "fr", None], "year": [2025, 2026, 2026]})
    pq.write_to_dataset(table, tmp_path / "written", partition_cols=["year", "lang"])
    request = BatchRequest(input=(tmp_path / "written").as_uri(), output=f"{file_place.url}/out")
    run_batch(request, version=file_place.version, identity="me", registry_url=file_place.version.registry_url)
    theirs = pyarrow.dataset.dataset(tmp_path / "written", partitioning="hive").to_table()
    columns = ["text", "lang", "year"]
    ours = file_place.result().select(columns).to_pylist()
    assert sorted(ours, key=str) == sorted(theirs.select(columns).to_pylist(), key=str)


def test_whether_folders_are_columns_is_part_of_the_fingerprint():
    prints = {
        Fingerprint.of("v", BatchRequest("file:///i", "file:///o", hive_partitioning=how), ()).request
        for how in (None, True, False)
    }
    assert len(prints) == 3
