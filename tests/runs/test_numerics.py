"""Runs in other numbers, on other threads, of versions with code of their own: what is asked, what is told."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_hfreg.errors import InputChangedError, RunCancelledError, UnsafeModelError
from airflow_provider_hfreg.registry.residency import release_residents, resident_keys
from airflow_provider_hfreg.runs import layout
from airflow_provider_hfreg.runs.commit import Marker, read_marker
from airflow_provider_hfreg.runs.outputs import find_report, read_document
from airflow_provider_hfreg.runs.report import Numerics, RowCounts, RunReport, told_numerics

NUMERICS = st.builds(
    Numerics,
    st.sampled_from(["float32", "bfloat16", None]),
    st.integers(1, 64),
    st.none() | st.integers(1, 2**20),
    st.sampled_from(["packed, prepacked layers", "padded", None]),
)


@pytest.fixture(scope="session")
def coded(registry, tmp_path_factory):
    """A version whose network is a Python file of its own; and the folder that it was logged from."""
    from airflow_provider_hfreg.testing.models import text_classifier_with_code

    folder = text_classifier_with_code(tmp_path_factory.mktemp("coded") / "model")
    version = registry.log_folder(
        folder, model_name="coded", version_name="v1", task="text-classification", trust_remote_code=True
    )
    return version, folder


def scores(place):
    return np.array(place.result()["score"].to_pylist())


# --- precision


@pytest.mark.parametrize(("precision", "name", "within"), [("bf16", "bfloat16", 5e-2), ("float16", "float16", 1e-2)])
def test_a_run_in_another_precision_has_its_numbers_and_says_so(file_place, texts, precision, name, within):
    place = file_place
    place.put_csv("in/a.csv", texts(25))
    own = place.run(identity="own")
    own_scores = scores(place)
    report = place.run(precision=precision, if_output_exists="replace")

    frame = pd.DataFrame({"text": [text for _, text in texts(25)]})
    expected = place.version.run(frame, precision=precision)
    np.testing.assert_allclose(scores(place), expected["score"].to_numpy(float), atol=within / 10)
    difference = np.abs(scores(place) - own_scores).max()
    assert 0 < difference <= within
    assert (own.precision, own.numerics) == ("float32", "scores as transformers' own pipeline gives them, within 1e-5")
    assert (report.precision, report.numerics) == (name, expected.attrs["hfreg"]["numerics"])
    assert report.token_budgets == (expected.attrs["hfreg"]["token_budget"],)
    assert report.layouts == (expected.attrs["hfreg"]["layout"],)
    assert report.layouts[0].startswith(("packed", "padded"))
    assert read_document(place.output, report.batch_run_id).request.precision == name
    told = [read_marker(place.output, part).numerics for part in place.parts()]
    assert [one.precision for one in told] == [name] * 3
    kept = json.loads(place.output.get(layout.report_key(report.batch_run_id)))
    assert (kept["precision"], kept["numerics"], kept["threads"]) == (name, report.numerics, list(report.threads))


def test_the_versions_own_precision_by_any_name_is_the_same_run(file_place, texts):
    file_place.put_csv("in/a.csv", texts(5))
    first = file_place.run()
    for name in ("float32", "fp32"):
        again = file_place.run(precision=name)
        assert (again.status, again.batch_run_id) == ("already_completed", first.batch_run_id)


def test_an_unfinished_run_is_not_gone_on_with_in_another_precision(file_place, texts):
    place = file_place
    place.put_csv("in/a.csv", texts(40))
    with pytest.raises(RunCancelledError):
        place.run(precision="bf16", cancelled=lambda: len(place.parts()) >= 2)
    for other in (None, "float16"):
        with pytest.raises(InputChangedError, match="is unfinished, and the request changed since it began"):
            place.run(precision=other)
    report = place.run(precision="bfloat16")  # another name of the same
    assert (report.shards_resumed, report.shards_total, report.precision) == (2, 4, "bfloat16")


def test_two_precisions_are_two_residents_that_do_not_mix(file_place, texts):
    place = file_place
    place.put_csv("in/a.csv", texts(12))
    release_residents()
    found = {}
    for number, precision in enumerate([None, "bf16", None, "bf16"]):
        place.run(precision=precision, identity=str(number), if_output_exists="replace")
        found.setdefault(precision, []).append(scores(place))
    assert len(resident_keys()) == 2
    for first, again in found.values():
        np.testing.assert_array_equal(first, again)
    assert np.abs(found[None][0] - found["bf16"][0]).max() > 0


# --- threads


def test_threads_hold_for_the_run_alone_and_are_told(file_place, texts):
    import torch

    file_place.put_csv("in/a.csv", texts(15))
    before = torch.get_num_threads()
    report = file_place.run(threads=before + 1)
    assert (report.threads, torch.get_num_threads()) == ((before + 1,), before)
    again = file_place.run(threads=before)  # what was computed is not computed again for that
    assert (again.status, again.threads) == ("already_completed", (before + 1,))


def test_a_resumed_run_tells_the_threads_of_all_its_tries(file_place, texts):
    import torch

    file_place.put_csv("in/a.csv", texts(40))
    before = torch.get_num_threads()
    with pytest.raises(RunCancelledError):
        file_place.run(threads=before + 2, cancelled=lambda: len(file_place.parts()) >= 2)
    assert torch.get_num_threads() == before
    report = file_place.run(threads=before + 1)
    assert (report.shards_resumed, report.threads) == (2, (before + 1, before + 2))


def test_a_run_without_rows_tells_no_numbers(file_place):
    file_place.put_csv("in/a.csv", [])
    report = file_place.run(precision="bf16", threads=2)
    assert (report.precision, report.numerics) == (None, None)
    assert (report.threads, report.token_budgets, report.layouts) == ((), (), ())


# --- what parts and reports tell


@given(numerics=st.none() | NUMERICS)
def test_a_part_tells_its_numbers_and_one_of_an_earlier_version_tells_none(numerics):
    marker = Marker("r", 0, 0, "a", "sha256:0", RowCounts(2, 2, 0), None, numerics)
    assert _reread(json.loads(marker.to_metadata()["hfreg"])) == marker
    earlier = {name: value for name, value in asdict(marker).items() if name != "numerics"}
    assert _reread(earlier).numerics is None
    later = asdict(marker) | {"colour": "red"}
    assert _reread(later) == marker
    if numerics is not None:
        of_fewer = {name: value for name, value in asdict(numerics).items() if name != "layout"}
        assert _reread(asdict(marker) | {"numerics": of_fewer}).numerics == replace(numerics, layout=None)


def _reread(plain):
    schema = pa.schema([("a", pa.int64())], metadata={"hfreg": json.dumps(plain)})
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"a": [1, 2]}, schema=schema), sink)
    return Marker.from_metadata(pq.read_metadata(pa.BufferReader(sink.getvalue())), where="here")


@given(shards=st.lists(st.none() | NUMERICS))
def test_a_report_tells_each_number_of_its_shards_once(shards):
    told = told_numerics(shards)
    known = [shard for shard in shards if shard is not None]
    assert set(told["threads"]) == {shard.threads for shard in known}
    assert set(told["token_budgets"]) == {shard.token_budget for shard in known} - {None}
    assert set((told["precision"] or "").split(", ")) - {""} == {shard.precision for shard in known} - {None}
    assert set(told["layouts"]) == {shard.layout for shard in known} - {None}
    assert (told["numerics"] is None) is (told["precision"] is None)
    assert list(told["threads"]) == sorted(told["threads"])


def test_a_report_of_an_earlier_version_is_read_and_a_cut_one_is_not(file_place, texts):
    file_place.put_csv("in/a.csv", texts(5))
    report = file_place.run()
    assert RunReport.from_json(json.loads(json.dumps(report.to_json()))) == report
    earlier = report.to_json()
    for name in ("precision", "numerics", "threads", "token_budgets", "layouts"):
        del earlier[name]
    file_place.output.put(layout.report_key(report.batch_run_id), json.dumps(earlier).encode())
    found = find_report(file_place.output, report.batch_run_id)
    assert (found.rows_ok, found.precision, found.threads) == (5, None, ())
    assert file_place.run().status == "already_completed"


# --- code of the version's own


def test_a_version_with_code_runs_with_consent_and_gives_what_its_pipeline_gives(file_place, texts, coded):
    import transformers

    place, (version, folder) = file_place, coded
    place.put_csv("in/a.csv", texts(25))
    report = place.run(version=version, trust_remote_code=True)
    plain = transformers.pipeline("text-classification", model=str(folder), trust_remote_code=True, device="cpu")
    assert type(plain.model).__name__ == "TwiceAsSure"
    expected = plain([text for _, text in texts(25)])
    assert report.rows_ok == 25
    assert place.result()["label"].to_pylist() == [one["label"] for one in expected]
    np.testing.assert_allclose(scores(place), [one["score"] for one in expected], atol=1e-5)


def test_without_consent_nothing_is_fetched_loaded_or_written_and_it_is_told_what_to_set(
    file_place, texts, coded, monkeypatch
):
    from airflow_provider_hfreg.registry.version import ModelVersion

    version, _ = coded
    monkeypatch.setattr(ModelVersion, "hold_folder", lambda *_, **__: pytest.fail("its files were fetched"))
    release_residents()
    file_place.put_csv("in/a.csv", texts(5))
    with pytest.raises(UnsafeModelError, match=r"coded/v1 runs Python files of its own\. .*trust_remote_code=True"):
        file_place.run(version=version)
    assert file_place.names() == []
    assert resident_keys() == frozenset()


def test_consent_is_asked_of_each_try_and_not_for_a_result_that_is_there(file_place, texts, coded):
    version, _ = coded
    file_place.put_csv("in/a.csv", texts(40))
    with pytest.raises(RunCancelledError):
        file_place.run(version=version, trust_remote_code=True, cancelled=lambda: len(file_place.parts()) >= 2)
    with pytest.raises(UnsafeModelError):
        file_place.run(version=version)
    assert file_place.run(version=version, trust_remote_code=True).shards_resumed == 2
    assert file_place.run(version=version).status == "already_completed"


def test_consent_to_code_that_a_version_has_not_changes_nothing(file_place, texts):
    file_place.put_csv("in/a.csv", texts(5))
    release_residents()
    report = file_place.run()
    assert file_place.run(trust_remote_code=True).batch_run_id == report.batch_run_id
    file_place.run(trust_remote_code=True, rerun=True)
    assert len(resident_keys()) == 1


def test_the_codes_digest_is_that_of_the_python_files_alone(registry, coded, version, tmp_path):
    from airflow_provider_hfreg.testing.models import text_classifier_with_code

    first, _ = coded
    assert version.manifest.code_digest is None
    options = {"task": "text-classification", "trust_remote_code": True}
    trained = text_classifier_with_code(tmp_path / "trained", seed=1)
    again = registry.log_folder(trained, model_name="coded", version_name="trained", **options)
    assert again.content_digest != first.content_digest
    assert again.manifest.code_digest == first.manifest.code_digest
    code = trained / "twice_as_sure.py"
    code.write_text(code.read_text() + "\n")
    other = registry.log_folder(trained, model_name="coded", version_name="changed", **options)
    assert other.manifest.code_digest not in (None, first.manifest.code_digest)
