"""A whole run on both stores: each row once, the same answers as one by one, bad rows beside the others."""

import json
import logging
import random

import pyarrow as pa
import pytest

from airflow_provider_hfreg.errors import (
    BucketNotFoundError,
    ColumnMissingError,
    FunctionNotFoundError,
    InputChangedError,
    InputNotFoundError,
    InvalidRunOptionError,
    OutputExistsError,
    RunAbandonedError,
    RunCancelledError,
    TooManyRowErrorsError,
    UnknownParameterError,
)
from airflow_provider_hfreg.runs import layout
from airflow_provider_hfreg.runs.batch import run_prepared
from airflow_provider_hfreg.runs.outputs import read_document


def test_each_row_comes_once_in_order_with_the_columns_passed_through(place, texts):
    place.put_csv("in/a.csv", texts(25))
    place.put_csv("in/b.csv", texts(8, start=25))
    report = place.run()
    result = place.result()
    assert result.column_names == ["id", "text", "label", "score"]
    assert result["id"].to_pylist() == [str(number) for number in range(33)]
    assert (report.status, report.rows_in, report.rows_ok, report.rows_quarantined) == ("completed", 33, 33, 0)
    assert (report.parts, report.shards_total, report.shards_resumed, report.errors_url) == (4, 4, 0, None)
    assert place.success()["parts"] == place.parts()
    assert json.loads(place.output.get(layout.report_key(report.batch_run_id))) == report.to_json()


def test_the_answers_are_those_of_the_version(file_place, texts):
    import pandas as pd

    file_place.put_csv("in/a.csv", texts(20))
    file_place.run()
    result = file_place.result()
    frame = file_place.version.run(pd.DataFrame({"text": [text for _, text in texts(20)]}))
    assert result["label"].to_pylist() == frame["label"].tolist()
    assert result["score"].to_pylist() == pytest.approx(frame["score"].tolist(), abs=1e-6)


def test_no_cell_that_the_model_does_not_read_costs_its_row_or_changes(file_place):
    notes = [b"1.1", b"1.10", b"12e4", b"-0", b"A0", b"123456789012345678", b"", b"\xff"]
    file_place.put("in/a.csv", b"note,text\n" + b"".join(note + b",good\n" for note in notes))
    report = file_place.run(rows_per_shard=3)
    assert (report.rows_ok, report.rows_quarantined) == (8, 0)
    kept = ["1.1", "1.10", "12e4", "-0", "A0", "123456789012345678", None, "\\xff"]
    assert file_place.result()["note"].to_pylist() == kept


def test_one_bad_row_of_a_thousand_leaves_the_others(place, texts):
    rows = [(number, None if number == 17 else text) for number, text in texts(1000)]
    place.put_csv("in.csv", rows)
    report = place.run(input=f"{place.url}/in.csv", rows_per_shard=300)
    assert (report.rows_ok, report.rows_quarantined) == (999, 1)
    (error,) = place.errors(report)
    assert (error["row"], error["file_row"], error["code"], error["column"]) == (17, 17, "null_value", "text")
    assert error["file"].endswith("/in.csv")
    assert error["values"] == {"id": "17", "text": None}
    assert report.errors_url == place.output.location(f"_hfreg/{report.batch_run_id}/errors")


def test_parquet_keeps_the_types_of_what_is_passed_through(place):
    at = pa.array([1, None], pa.timestamp("us", "UTC"))
    place.put("in/a.parquet", pa.table({"at": at, "body": ["good", "bad"], "label": ["x", "y"]}))
    place.run(columns={"text": "body"}, passthrough=["at", "label"], output_prefix="m_")
    result = place.result()
    assert result.schema.names == ["at", "label", "m_label", "m_score"]
    assert result["at"].combine_chunks() == at


def test_jsonl_with_broken_lines_is_quarantined_by_line(place):
    place.put("in/a.jsonl", b'{"text": "good", "n": 1}\n{"text": \n\n{"text": 5}\n{"n": {"k": 2}, "text": "bad"}\n')
    report = place.run()
    assert place.result()["n"].to_pylist() == ["1", '{"k": 2}']
    assert [(row["row"], row["code"], row["raw"]) for row in place.errors(report)] == [
        (1, "bad_json", '{"text": '),
        (2, "wrong_type", '{"text": 5}'),
    ]


@pytest.mark.parametrize("name", ["in/a.csv", "in/a.jsonl", "in/a.parquet"])
def test_an_input_of_no_rows_is_a_finished_run_with_one_empty_part(file_place, name):
    empty = pa.table({"id": pa.array([], pa.int64()), "text": pa.array([], pa.string())})
    contents = {"in/a.csv": b"id,text\n", "in/a.jsonl": b"\n", "in/a.parquet": empty}
    file_place.put(name, contents[name])
    report = file_place.run()
    assert (report.status, report.rows_in, report.parts) == ("completed", 0, 1)
    assert file_place.result().schema.names[-2:] == ["label", "score"]
    assert file_place.result().num_rows == 0


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_rows_are_conserved_whichever_are_bad(file_place, seed):
    rng = random.Random(seed)
    good, lines = [], ["id,text"]
    for number in range(200):
        kind = rng.choice(["good", "good", "good", "null", "fields", "blank_before"])
        if kind == "blank_before":
            lines.append("")
        text = {"null": f"{number},", "fields": f"{number},a,b"}.get(kind, f'{number},"text, of\n{number}"')
        good += [number] if "text" in text else []
        lines.append(text)
    file_place.store.put("in/a.csv", "\n".join(lines).encode())
    report = file_place.run(rows_per_shard=rng.randint(1, 90))
    assert file_place.ids() == good
    assert (report.rows_in, report.rows_ok, report.rows_quarantined) == (200, len(good), 200 - len(good))
    assert sorted(good + [row["row"] for row in file_place.errors(report)]) == list(range(200))


# --- again


def test_a_finished_run_is_returned_as_it_is_and_nothing_is_touched(place, texts, caplog):
    place.put_csv("in/a.csv", texts(12))
    first = place.run()
    before = {info.key: info.etag for info in place.output.list_infos()}
    with caplog.at_level(logging.INFO):
        again = place.run()
    assert again.status == "already_completed"
    assert again.to_json() == first.to_json() | {"status": "already_completed"}
    assert {info.key: info.etag for info in place.output.list_infos()} == before
    assert "already completed: run" in caplog.text


def test_rerun_does_it_over_and_leaves_each_row_once(place, texts):
    place.put_csv("in/a.csv", texts(12))
    first = place.run()
    second = place.run(rerun=True)
    assert second.batch_run_id == f"{first.batch_run_id}-1"
    assert place.ids() == list(range(12))
    assert place.success()["parts"] == place.parts()
    assert place.run().batch_run_id == second.batch_run_id


@pytest.mark.parametrize("if_output_exists", ["error", "replace", "append"])
def test_a_moved_alias_is_another_run_that_replaces_the_own_earlier_one(place, other_version, texts, if_output_exists):
    place.put_csv("in/a.csv", texts(12))
    first = place.run()
    second = place.run(version=other_version, if_output_exists=if_output_exists)
    assert second.status == "completed"
    assert (second.version_name, second.batch_run_id) != (first.version_name, first.batch_run_id)
    assert place.ids() == list(range(12))
    assert [run["batch_run_id"] for run in place.success()["runs"]] == [second.batch_run_id]


def test_an_empty_folder_is_in_nobodys_way(place, texts):
    place.put_csv("in/a.csv", texts(3))
    place.output.put("old/part.parquet", b"gone soon")
    with pytest.raises(OutputExistsError, match="old/"):
        place.run()
    place.output.delete(["old/part.parquet"])
    assert place.run().rows_ok == 3


def test_replace_removes_the_earlier_parts_and_append_keeps_them(place, texts):
    place.put_csv("in/a.csv", texts(12))
    first = place.run(identity="monday")
    with pytest.raises(OutputExistsError, match=r"holds .* which this run did not write.*'replace'.*'append'"):
        place.run(identity="tuesday")
    appended = place.run(identity="tuesday", if_output_exists="append")
    assert sorted(place.ids()) == sorted([*range(12)] * 2)
    assert [run["batch_run_id"] for run in place.success()["runs"]] == [first.batch_run_id, appended.batch_run_id]
    replaced = place.run(identity="wednesday", if_output_exists="replace")
    assert place.ids() == list(range(12))
    assert [run["batch_run_id"] for run in place.success()["runs"]] == [replaced.batch_run_id]


def test_a_finished_run_whose_parts_were_replaced_is_run_again_and_not_returned(file_place, texts):
    file_place.put_csv("in/a.csv", texts(12))
    first = file_place.run(identity="monday")
    file_place.run(identity="tuesday", if_output_exists="replace")
    again = file_place.run(identity="monday", if_output_exists="replace")
    assert (again.status, again.batch_run_id) == ("completed", f"{first.batch_run_id}-1")
    assert file_place.ids() == list(range(12))


@pytest.mark.parametrize("if_output_exists", ["error", "replace"])
def test_a_folder_that_holds_something_else_is_left_alone(file_place, texts, if_output_exists):
    file_place.put_csv("in/a.csv", texts(3))
    file_place.store.put("out/theirs.parquet", b"x")
    with pytest.raises(OutputExistsError, match=r"theirs\.parquet"):
        file_place.run(if_output_exists=if_output_exists)
    assert [info.key for info in file_place.output.list_infos()] == ["theirs.parquet"]


# --- limits and policies


def bad_third(count):
    return [(number, None if number % 3 == 0 else "good") for number in range(count)]


def test_fail_names_the_first_bad_row_and_its_reason(file_place):
    file_place.put_csv("in/a.csv", [(0, "good"), (1, "good"), (2, None), (3, None)])
    with pytest.raises(
        TooManyRowErrorsError, match=r"Row 2 of file://.*a\.csv, column 'text' \(null_value\): expected STR"
    ):
        file_place.run(on_row_error="fail")
    assert file_place.parts() == []


def test_too_many_bad_rows_stop_the_run_and_a_larger_limit_resumes_it(file_place):
    file_place.put_csv("in/a.csv", bad_third(60))
    with pytest.raises(
        TooManyRowErrorsError, match=r"of 60 rows cannot be run, and max_row_errors=10 allows 10.*null_val"
    ):
        file_place.run(max_row_errors=10)
    assert 0 < len(file_place.parts()) < 6
    report = file_place.run(max_row_errors=0.5)
    assert (report.rows_ok, report.rows_quarantined, report.shards_resumed) == (40, 20, 3)


def test_a_share_stops_the_run_as_soon_as_it_cannot_pass(file_place):
    file_place.put_csv("in/a.csv", bad_third(60))
    with pytest.raises(TooManyRowErrorsError, match=r"^7 of 60 .* max_row_errors=0\.1 allows 6"):
        file_place.run(max_row_errors=0.1, rows_per_shard=1)


def test_a_cancelled_run_keeps_what_is_committed(file_place, texts):
    file_place.put_csv("in/a.csv", texts(60))
    with pytest.raises(RunCancelledError, match="running again goes on"):
        file_place.run(cancelled=lambda: len(file_place.parts()) >= 2)
    report = file_place.run()
    assert report.shards_resumed == 2
    assert file_place.ids() == list(range(60))


def test_an_unfinished_run_that_differs_is_refused_until_it_is_abandoned(place, texts, other_version):
    place.put_csv("in/a.csv", texts(40))
    with pytest.raises(RunCancelledError):
        place.run(cancelled=lambda: len(place.parts()) >= 2)
    place.put_csv("in/a.csv", texts(41))
    with pytest.raises(
        InputChangedError, match=r"the model version and the input files changed.*rerun=True to abandon"
    ):
        place.run(version=other_version)
    report = place.run(rerun=True)
    assert place.ids() == list(range(41))
    assert place.run().status == "already_completed"
    assert report.shards_resumed == 0


def test_a_retry_of_a_rerun_resumes_it(file_place, texts):
    file_place.put_csv("in/a.csv", texts(40))
    file_place.run()
    done = len(file_place.parts())
    with pytest.raises(RunCancelledError):
        file_place.run(rerun=True, cancelled=lambda: len(file_place.parts()) >= done + 2)
    report = file_place.run(rerun=True)
    assert (report.shards_resumed, report.batch_run_id[-2:]) == (2, "-1")
    assert file_place.ids() == list(range(40))


def test_an_abandoned_run_writes_nothing_more(file_place, texts):
    file_place.put_csv("in/a.csv", texts(40))
    replaced = False

    def overtaken() -> bool:
        nonlocal replaced
        if len(file_place.parts()) == 2 and not replaced:
            replaced = True
            file_place.run(identity="other", if_output_exists="replace")
        return False

    with pytest.raises(RunAbandonedError, match="was abandoned: another run"):
        file_place.run(cancelled=overtaken)
    assert file_place.ids() == list(range(40))


def test_an_input_that_changes_under_the_run_is_told(file_place, texts):
    file_place.put_csv("in/a.csv", texts(40))
    with pytest.raises(RunCancelledError):
        file_place.run(cancelled=lambda: len(file_place.parts()) >= 1)
    ask = file_place.ask()
    file_place.put_csv("in/a.csv", texts(40, start=1))
    with pytest.raises(InputChangedError, match=r"a\.csv was changed since the run was planned"):
        run_prepared(ask)


# --- refused before anything is written


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"input": "none.csv"}, InputNotFoundError, "No input file"),
        ({"columns": {"text": "body"}}, ColumnMissingError, "'body'"),
        ({"passthrough": ["nope"]}, ColumnMissingError, "'nope'"),
        ({"params": {"no_such": 1}}, UnknownParameterError, "no_such"),
        ({"function_name": "other"}, FunctionNotFoundError, "other"),
        ({"rows_per_shard": 0}, InvalidRunOptionError, "rows_per_shard"),
        ({"output": "in/scored"}, InvalidRunOptionError, "lies inside the input"),
    ],
)
def test_a_bad_request_writes_nothing(file_place, texts, options, error, message):
    file_place.put_csv("in/a.csv", texts(3))
    urls = {name: f"{file_place.url}/{value}" for name, value in options.items() if name in ("input", "output")}
    with pytest.raises(error, match=message):
        file_place.run(**{**options, **urls})
    assert [info.key for info in file_place.store.list_infos()] == ["in/a.csv"]


def test_a_bucket_that_does_not_exist_is_named(request, version, seaweedfs, file_place, texts):
    file_place.put_csv("in/a.csv", texts(3))
    file_place.s3 = request.getfixturevalue("s3_settings")
    with pytest.raises(BucketNotFoundError, match="no-such-bucket"):
        file_place.run(output="s3://no-such-bucket/out")


# --- sampling


def test_sampled_texts_depend_on_the_seed_and_the_row_and_not_on_the_shards(file_place, sampler):
    rows = [(number, None if number in (3, 11) else "it simply is") for number in range(30)]
    file_place.put_csv("in/a.csv", rows, header="id,inputs")

    def sampled(name, **options):
        file_place.run(version=sampler, output=f"{file_place.url}/{name}", **options)
        keys = [info.key for info in file_place.store.below(name).list_infos("part-")]
        tables = [file_place.read(file_place.store.below(name), key) for key in keys]
        return dict(zip(*(pa.concat_tables(tables)[column].to_pylist() for column in ("id", "outputs")), strict=True))

    whole = sampled("a", rows_per_shard=100, seed=7)
    assert len(whole) == 28
    assert len(set(whole.values())) > 20
    assert sampled("b", rows_per_shard=4, seed=7) == whole
    assert sampled("c", rows_per_shard=100, seed=8) != whole


def test_the_seed_is_recorded(file_place, texts):
    file_place.put_csv("in/a.csv", texts(3))
    report = file_place.run(seed=5)
    assert report.seed == read_document(file_place.output, report.batch_run_id).seed == 5


def test_a_token_budget_of_its_own_changes_no_answer(file_place, texts):
    file_place.put_csv("in/a.csv", texts(20))
    file_place.run(identity="one")
    before = file_place.result()
    file_place.run(identity="two", token_budget=16, if_output_exists="replace")
    assert file_place.result()["label"] == before["label"]
    assert file_place.version.engine().token_budget > 16  # the resident engine keeps its own


def test_a_run_in_which_no_row_worked_is_no_success(file_place):
    file_place.put_csv("in/a.csv", [(row, None) for row in range(4)])
    for _ in range(2):
        with pytest.raises(TooManyRowErrorsError, match=r"None of the 4 rows could be run.*max_row_errors=1\.0"):
            file_place.run()
    assert file_place.run(max_row_errors=1.0).rows_quarantined == 4
    with pytest.raises(TooManyRowErrorsError, match="None of the 4 rows"):
        file_place.run()


@pytest.mark.parametrize("stricter", [{"on_row_error": "fail"}, {"max_row_errors": 0}])
def test_a_finished_run_is_not_returned_to_who_allows_fewer_errors(file_place, texts, stricter):
    file_place.put_csv("in/a.csv", [*texts(9), (9, None)])
    assert file_place.run().rows_quarantined == 1
    with pytest.raises(TooManyRowErrorsError, match=r"^1 (of 10 )?rows"):
        file_place.run(**stricter)
    assert file_place.run().status == "already_completed"


def test_a_glob_that_would_match_the_runs_own_parts_is_refused(file_place, texts):
    file_place.put_csv("data/part-a.csv", texts(3))
    with pytest.raises(InvalidRunOptionError, match="lies inside the input"):
        file_place.run(
            input=f"{file_place.store.url}/*/part-*", output=f"{file_place.store.url}/out", input_format="csv"
        )
