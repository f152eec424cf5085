"""A shard is committed once; the loser leaves nothing behind; a part that is none of ours is told."""

import random
import threading
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from airflow_provider_hfreg.errors import InputChangedError, OutputExistsError, RowsNotConservedError, RunCancelledError
from airflow_provider_hfreg.runs import layout, outputs
from airflow_provider_hfreg.runs.batch import run_prepared
from airflow_provider_hfreg.runs.commit import Marker, WrittenShard, commit_shard, committed_shards, read_marker
from airflow_provider_hfreg.runs.execute import execute_shard, read_shard
from airflow_provider_hfreg.runs.outputs import begin, look, publish_success
from airflow_provider_hfreg.runs.plan import RunDocument
from airflow_provider_hfreg.runs.planning import plan_run
from airflow_provider_hfreg.runs.report import RowCounts
from airflow_provider_hfreg.runs.spec import batch_run_id
from airflow_provider_hfreg.testing.faults import Fault, Faults, FaultyStore


def planned(place, identity="me", **options):
    ask = place.ask(identity=identity, **options)
    document = plan_run(
        ask.request,
        ask.version,
        batch_run_id=batch_run_id(identity, ask.fingerprint),
        identity=identity,
        fingerprint=ask.fingerprint,
        registry_url="file:///r",
        inputs=ask.inputs,
        files=ask.files,
    )
    return ask, document


def written(document, folder, attempt, *, shard=0, bad=1):
    """An attempt at a shard of ten rows."""
    part, errors = folder / f"{attempt}.parquet", folder / f"{attempt}-errors.parquet"
    key = layout.errors_key(shard, attempt, document.batch_run_id) if bad else None
    first_row = document.shards[shard].first_row
    counts = RowCounts(10, 10 - bad, bad)
    marker = Marker(document.batch_run_id, shard, first_row, attempt, "sha256:0", counts, key)
    with pq.ParquetWriter(part, pa.schema([("n", pa.int64())])) as writer:
        writer.write_table(pa.table({"n": pa.array(range(10 - bad), pa.int64())}))
        writer.add_key_value_metadata(marker.to_metadata())
    pq.write_table(pa.table({"row": [9]}), errors)
    return WrittenShard(part, errors if bad else None, marker)


@pytest.fixture
def shard(place, texts, tmp_path):
    place.put_csv("in/a.csv", texts(10))
    return place, planned(place)[1], tmp_path


def test_the_footer_tells_who_wrote_a_part_and_what_became_of_its_rows(shard):
    place, document, folder = shard
    marker = commit_shard(place.output, document, written(document, folder, "a1"))
    assert read_marker(place.output, layout.part_key(0, document.batch_run_id)) == marker
    assert committed_shards(place.output, document) == {0: marker}


def test_a_part_that_was_cut_by_another_plan_is_none_of_this_one(shard):
    """Of as many rows as this plan's shard, but other rows: the counts alone would not tell."""
    place, document, folder = shard
    attempt = written(document, folder, "a1")
    other = replace(document, shards=(replace(document.shards[0], first_row=10),))
    commit_shard(place.output, other, written(other, folder, "b2"))
    with pytest.raises(RowsNotConservedError, match="begins at row 10, and its plan says 0"):
        committed_shards(place.output, document)
    with pytest.raises(RowsNotConservedError, match="cut by another plan"):
        commit_shard(place.output, document, attempt)


@pytest.mark.parametrize("told", ["{", "null", "[]", '{"shard": 0}', '{"counts": {"rows": 1}}'])
def test_a_part_whose_footer_says_something_else_is_none_of_ours(shard, told):
    place, document, folder = shard
    with pq.ParquetWriter(folder / "part.parquet", pa.schema([("n", pa.int64())])) as writer:
        writer.add_key_value_metadata({"hfreg": told})
    place.output.upload(layout.part_key(0, document.batch_run_id), folder / "part.parquet")
    with pytest.raises(RowsNotConservedError, match="was not written by it, or was changed since"):
        committed_shards(place.output, document)


def test_a_part_under_another_ones_name_is_told(shard):
    place, document, folder = shard
    commit_shard(place.output, document, written(document, folder, "a1"))
    place.output.copy(layout.part_key(0, document.batch_run_id), layout.part_key(1, document.batch_run_id))
    with pytest.raises(RowsNotConservedError, match=r"part-00001-.* holds shard 0 of the run"):
        read_marker(place.output, layout.part_key(1, document.batch_run_id))


def test_the_loser_takes_its_errors_with_it_and_goes_on_with_the_winners_counts(shard):
    place, document, folder = shard
    winner = commit_shard(place.output, document, written(document, folder, "a1", bad=2))
    stands = commit_shard(place.output, document, written(document, folder, "b2"))
    assert stands == winner
    keys = [info.key for info in place.output.list_infos(layout.errors_folder(document.batch_run_id))]
    assert keys == [winner.errors_key]


def test_of_many_at_once_one_wins(shard):
    place, document, folder = shard
    attempts = [written(document, folder, f"a{n}") for n in range(8)]
    together = threading.Barrier(8)
    stands = []

    def commit(attempt):
        together.wait()
        stands.append(commit_shard(place.output, document, attempt).attempt)

    threads = [threading.Thread(target=commit, args=(attempt,)) for attempt in attempts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(stands) == 8
    assert len(set(stands)) == 1
    assert len(list(place.output.list_infos(layout.errors_folder(document.batch_run_id)))) == 1


def test_a_footer_longer_than_the_first_read_is_read_again(file_place, texts, tmp_path):
    file_place.put_csv("in/a.csv", texts(10))
    _, document = planned(file_place)
    attempt = written(document, tmp_path, "a1", bad=0)
    with pq.ParquetWriter(attempt.part, pa.schema([("n", pa.int64())])) as writer:
        writer.write_table(pa.table({"n": pa.array(range(10), pa.int64())}))
        writer.add_key_value_metadata(attempt.marker.to_metadata() | {"long": "x" * 200_000})
    assert commit_shard(file_place.output, document, attempt) == attempt.marker
    assert committed_shards(file_place.output, document)[0] == attempt.marker


@pytest.mark.parametrize("content", [b"no parquet at all", None])
def test_a_part_that_is_none_of_ours_is_told(file_place, texts, content):
    file_place.put_csv("in/a.csv", texts(10))
    _, document = planned(file_place)
    key = f"out/{layout.part_key(0, document.batch_run_id)}"
    file_place.put(key, pa.table({"n": [1]}) if content is None else content)
    with pytest.raises(RowsNotConservedError, match=r"part-00000.*[Mm]ove it away"):
        committed_shards(file_place.output, document)


def test_a_part_that_misses_rows_fails_the_run(file_place, texts, tmp_path):
    file_place.put_csv("in/a.csv", texts(11))
    _, document = planned(file_place, rows_per_shard=11)
    file_place.output.put_if_absent(layout.part_key(0, document.batch_run_id), written(document, tmp_path, "a1").part)
    with pytest.raises(RowsNotConservedError, match="11 rows were planned, 10 were read"):
        committed_shards(file_place.output, document)


def test_a_part_removed_during_the_run_fails_it(file_place, texts):
    file_place.put_csv("in/a.csv", texts(30))
    ask = file_place.ask()
    removed = Faults(
        Fault(
            "put_if_absent",
            lambda: file_place.output.delete(file_place.parts()[:1]),
            call=3,
            when="after",
            key="part-",
        )
    )
    with pytest.raises(RowsNotConservedError, match=r"1 parts of the run .* are gone"):
        run_prepared(replace(ask, output=FaultyStore(ask.output, removed)))
    assert "_SUCCESS" not in file_place.names()
    assert file_place.run().rows_ok == 30


def test_two_runs_that_begin_at_one_moment_do_not_share_a_folder(file_place, texts):
    file_place.put_csv("in/a.csv", texts(10))
    _, mine = planned(file_place, "me")
    _, theirs = planned(file_place, "them")
    begin(file_place.output, theirs, alone=True)
    with pytest.raises(OutputExistsError, match=f"{theirs.batch_run_id} began .* at the same moment"):
        begin(file_place.output, mine, alone=True)
    assert [run.batch_run_id for run in look(file_place.output, own_prefix="").runs] == [theirs.batch_run_id]


def test_of_two_runs_that_both_replace_one_steps_back(file_place, texts):
    file_place.put_csv("in/a.csv", texts(10))
    file_place.run(identity="earlier")
    ask = file_place.ask(if_output_exists="replace")
    other = Faults(
        Fault(
            "put_if_absent",
            lambda: file_place.run(identity="them", if_output_exists="replace"),
            when="before",
            key="run.json",
        )
    )
    with pytest.raises(OutputExistsError, match="Nothing was written by this one"):
        run_prepared(replace(ask, output=FaultyStore(ask.output, other)))
    assert file_place.ids() == list(range(10))
    mine = batch_run_id("me", ask.fingerprint)
    assert not [key for key in file_place.output.list_names(layout.RUNS_FOLDER) if mine in key]


def test_an_equal_run_that_began_first_has_the_plan(file_place, texts):
    file_place.put_csv("in/a.csv", texts(10))
    _, document = planned(file_place)
    begin(file_place.output, document, alone=True)
    assert begin(file_place.output, replace(document, seed=99), alone=True).seed == document.seed


def test_runs_that_finish_together_are_all_in_the_list_of_parts(place, texts):
    place.put_csv("in/a.csv", texts(10))
    documents = [planned(place, f"run {n}")[1] for n in range(6)]
    threads = [threading.Thread(target=publish_success, args=(place.output, document)) for document in documents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {run["batch_run_id"] for run in place.success()["runs"]} == {d.batch_run_id for d in documents}


def test_another_tools_empty_success_file_is_no_obstacle(file_place, texts):
    file_place.put_csv("in/a.csv", texts(10))
    file_place.store.put("out/_SUCCESS", b"")
    file_place.run()
    assert file_place.success()["parts"] == file_place.parts()


def test_a_shard_is_executed_from_run_json_and_its_index_alone(file_place, texts):
    file_place.put_csv("in/a.csv", texts(25))
    ask, document = planned(file_place)
    begin(file_place.output, document, alone=True)
    told = file_place.output.get(layout.run_key(document.batch_run_id))
    again = RunDocument.from_bytes(told, where="run.json")
    marker = execute_shard(
        again,
        1,
        read_shard(again, 1, ask.inputs, window_rows=4),
        engine=file_place.version.engine,
        inputs=ask.inputs,
        output=file_place.output,
    )
    assert marker.counts == RowCounts(10, 10, 0)
    assert file_place.ids() == list(range(10, 20))
    assert outputs.find_report(file_place.output, document.batch_run_id) is None


def as_csv(rows):
    return "\n".join(["id,text", *(f'{number},"{text}"' for number, text in rows)]).encode()


def as_parquet(rows):
    return pa.table({"id": [number for number, _ in rows], "text": [text for _, text in rows]})


@pytest.mark.parametrize(("key", "content"), [("in/a.csv", as_csv), ("in/a.parquet", as_parquet)])
@pytest.mark.parametrize("rows_after", [10_000, 3])
def test_rows_of_two_states_of_a_file_never_mix(place, key, content, rows_after):
    """The file is longer than what one request fetches, and changes after the first."""
    rows = [(number, random.Random(number).randbytes(600).hex()) for number in range(10_000)]
    place.put(key, content(rows), row_group_size=1000)
    ask, document = planned(place, rows_per_shard=10_000)
    windows = read_shard(document, 0, ask.inputs, window_rows=1000)
    first = next(windows)
    assert first.row[0] == 0
    place.put(key, content([(number, text[::-1]) for number, text in rows[:rows_after]]), row_group_size=1000)

    def read_on():
        for window in windows:
            assert window.batch.column("text").to_pylist() == [rows[row][1] for row in window.row]

    with pytest.raises(InputChangedError, match="was changed since the run was planned"):
        read_on()


def test_a_file_that_is_gone_is_told(place, texts):
    place.put_csv("in/a.csv", texts(10))
    ask, document = planned(place)
    place.store.delete(["in/a.csv"])
    with pytest.raises(InputChangedError, match=r"a\.csv is gone since the run was planned"):
        list(read_shard(document, 0, ask.inputs, window_rows=5))


def test_a_failed_run_leaves_no_thread_that_reads(file_place, texts):
    rows = 5 * file_place.version.engine().window_rows  # more than is read ahead
    file_place.put_csv("in/a.csv", texts(rows))
    with pytest.raises(RunCancelledError) as kept:
        file_place.run(cancelled=lambda: True, rows_per_shard=rows)
    readers = [thread for thread in threading.enumerate() if thread.name == "hfreg-read-ahead"]
    for reader in readers:
        reader.join(timeout=10)
    assert not any(reader.is_alive() for reader in readers)
    assert kept.value.__traceback__  # which holds the frames of the run
