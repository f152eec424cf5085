"""Loading, exporting and running a version."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pandas as pd
import pytest

from airflow_provider_hfreg.errors import (
    ColumnMissingError,
    DigestMismatchError,
    FunctionNotFoundError,
    InvalidOptionError,
    ModelTooLargeError,
    RowsFailedError,
    UnknownParameterError,
)
from airflow_provider_hfreg.inference import pipeline
from airflow_provider_hfreg.registry import Registry
from airflow_provider_hfreg.registry.residency import release_residents, resident_digests
from airflow_provider_hfreg.storage.local import LocalStore
from airflow_provider_hfreg.testing.faults import FaultyStore
from airflow_provider_hfreg.versions.manifest import Manifest

TASK = "text-classification"
TEXTS = ["the film was good", "a dull plot, wooden acting", "größtenteils köstlich"]


@pytest.fixture
def top2(file_registry, classifier):
    return file_registry.log_folder(
        classifier, model_name="finbert", version_name="top2", task=TASK, pipeline_kwargs={"top_k": 2}
    )


@pytest.fixture
def best(file_registry, classifier):
    return file_registry.log_folder(classifier, model_name="finbert", version_name="best", task=TASK)


def test_a_version_runs_as_the_pipeline_that_was_logged(registry, classifier):
    pipe = pipeline(TASK, model=str(classifier))
    expected = pipe(TEXTS)
    mv = registry.log_model(pipe, model_name="finbert", version_name="v1")
    result = mv.run(pd.DataFrame({"text": TEXTS}))
    assert list(result.columns) == ["label", "score"]
    assert [str(dtype) for dtype in result.dtypes] == ["string", "Float64"]
    assert list(result["label"]) == [output["label"] for output in expected]
    assert list(result["score"]) == pytest.approx([output["score"] for output in expected], abs=1e-5)


def test_unnamed_columns_are_taken_by_position(top2):
    named = top2.run(pd.DataFrame({"text_pair": ["", "", ""], "text": TEXTS}))
    unnamed = top2.run(pd.DataFrame([[text, ""] for text in TEXTS]))
    pd.testing.assert_frame_equal(named, unnamed)


def test_the_index_is_kept_and_the_frame_is_not_changed(best):
    frame = pd.DataFrame({"id": [7, 8, 9], "text": TEXTS}, index=["c", "a", "b"])
    before = frame.copy(deep=True)
    assert list(best.run(frame).index) == ["c", "a", "b"]
    pd.testing.assert_frame_equal(frame, before)


def test_an_empty_frame_gives_an_empty_frame_of_the_same_types(best):
    result = best.run(pd.DataFrame({"text": pd.Series([], dtype=object)}))
    assert len(result) == 0
    assert [str(dtype) for dtype in result.dtypes] == ["string", "Float64"]


def test_more_rows_than_a_window_keep_their_order(best):
    frame = pd.DataFrame({"text": [TEXTS[row % 3] for row in range(9000)]})
    result = best.run(frame)
    three = best.run(frame[:3])
    assert list(result["label"]) == [three["label"][row % 3] for row in range(9000)]


def test_a_network_is_fitted_for_the_second_frame_or_for_whoever_asks_for_the_engine(best, top2):
    from airflow_provider_hfreg.registry.residency import get_resident

    def is_fitted(version):
        return get_resident(version, version.manifest.function()).engine.loaded.layout.last is not None

    release_residents()
    frame = pd.DataFrame({"text": TEXTS[:1]})
    first = best.run(frame)
    assert not is_fitted(best)
    second = best.run(frame)
    assert is_fitted(best)
    assert list(first["label"]) == list(second["label"])
    assert list(first["score"]) == pytest.approx(list(second["score"]), abs=1e-6)
    assert top2.engine().loaded.layout.last is not None


@pytest.fixture
def windows_of(monkeypatch):
    """Let a frame run in windows of so many rows, and note in which thread each was tokenised."""
    from airflow_provider_hfreg.inference.engine import Engine

    prepared, original = [], Engine.prepared

    def prepare(engine, window, *arguments, **options):
        ready = original(engine, window, *arguments, **options)
        prepared.append(threading.current_thread())
        return ready

    def rows(count):
        monkeypatch.setattr("airflow_provider_hfreg.registry.running._WINDOW_ROWS", count)
        monkeypatch.setattr(Engine, "prepared", prepare)
        return prepared

    return rows


def test_the_next_window_is_tokenised_while_one_runs(best, windows_of):
    frame = pd.DataFrame({"text": [f"{TEXTS[row % 3]} {row}" for row in range(40)]})
    expected = best.run(frame)
    prepared, waited = windows_of(8), []

    def at_forward(*_):
        until = time.monotonic() + 20
        wanted = min(5, 2 + len(waited))
        while len(prepared) < wanted and time.monotonic() < until:
            time.sleep(0.001)
        waited.append(len(prepared) >= wanted)

    hook = best.engine().loaded.network.register_forward_pre_hook(at_forward)
    try:
        result = best.run(frame)
    finally:
        hook.remove()
    assert waited == [True] * 5
    here = threading.current_thread()
    assert [thread is here for thread in prepared] == [True, False, False, False, False]
    assert list(result["label"]) == list(expected["label"])
    assert list(result["score"]) == pytest.approx(list(expected["score"]), abs=1e-6)


def test_a_frame_of_one_window_runs_without_another_thread(best, windows_of):
    prepared, before = windows_of(8), set(threading.enumerate())
    seen = []
    hook = best.engine().loaded.network.register_forward_hook(lambda *_: seen.append(set(threading.enumerate())))
    try:
        best.run(pd.DataFrame({"text": TEXTS}))
    finally:
        hook.remove()
    assert prepared == [threading.current_thread()]
    assert all(threads <= before for threads in seen)


@pytest.mark.parametrize("fails", [1, 3])
def test_a_window_that_cannot_be_tokenised_ends_the_run_and_leaves_no_thread(best, monkeypatch, fails):
    from airflow_provider_hfreg.inference.engine import Engine

    called, original = [], Engine.prepared

    def prepare(engine, window, *arguments, **options):
        called.append(window)
        if len(called) == fails:
            raise OSError("broken")
        return original(engine, window, *arguments, **options)

    monkeypatch.setattr("airflow_provider_hfreg.registry.running._WINDOW_ROWS", 8)
    monkeypatch.setattr(Engine, "prepared", prepare)
    before = set(threading.enumerate())
    with pytest.raises(OSError, match="broken"):
        best.run(pd.DataFrame({"text": TEXTS * 20}))
    assert len(called) == fails
    assert set(threading.enumerate()) <= before


def test_failed_rows_are_raised_after_all_ran_and_the_others_results_are_kept(best):
    frame = pd.DataFrame({"text": [TEXTS[0], None, TEXTS[2]]}, index=[10, 20, 30])
    with pytest.raises(RowsFailedError, match=r"1 of 3 rows failed in finbert/best: row 1 \(null_value\)") as caught:
        best.run(frame)
    assert list(caught.value.result.index) == [10, 30]
    assert [error.row for error in caught.value.errors] == [1]


def test_failed_rows_may_be_nulls_instead(best):
    frame = pd.DataFrame({"text": [TEXTS[0], None, TEXTS[2]]}, index=[10, 20, 30])
    result = best.run(frame, on_row_error="null")
    assert list(result.index) == [10, 20, 30]
    assert list(result["label"].isna()) == [False, True, False]
    assert result.attrs["hfreg"]["failed_rows"] == 1


def test_a_function_is_found_by_its_upper_case_name_and_an_unknown_one_lists_them(best):
    frame = pd.DataFrame({"text": TEXTS})
    pd.testing.assert_frame_equal(best.run(frame, function_name="__CALL__"), best.run(frame))
    with pytest.raises(FunctionNotFoundError, match="it has '__call__'"):
        best.run(frame, function_name="predict")


def test_what_can_be_refused_without_a_model_is_refused_before_one_is_fetched(file_url, best, tmp_path):
    counted = FaultyStore(LocalStore(file_url))
    mv = Registry(counted, cache_folder=tmp_path / "cold").resolve("finbert/best")
    frame = pd.DataFrame({"text": TEXTS})
    with pytest.raises(ColumnMissingError, match="'text'"):
        mv.run(pd.DataFrame({"body": TEXTS}))
    with pytest.raises(UnknownParameterError, match="'temperature'"):
        mv.run(frame, params={"temperature": 1.0})
    with pytest.raises(InvalidOptionError, match="on_row_error"):
        mv.run(frame, on_row_error="ignore")
    assert counted.faults.calls["download"] == 0


def test_a_runs_parameters_go_over_the_versions(top2):
    frame = pd.DataFrame({"text": TEXTS})
    assert list(top2.run(frame)["outputs"].str.count("label")) == [2, 2, 2]
    assert list(top2.run(frame, params={"top_k": 1})["outputs"].str.count("label")) == [1, 1, 1]


def test_the_seed_is_told_and_gives_the_same_text_again(file_registry, generator):
    mv = file_registry.log_folder(
        generator,
        model_name="gpt",
        task="text-generation",
        pipeline_kwargs={"max_new_tokens": 8, "do_sample": True},
    )
    frame = pd.DataFrame({"inputs": ["the film was", "a dull"]})
    first = mv.run(frame)
    again = mv.run(frame, seed=first.attrs["hfreg"]["seed"])
    assert list(first["outputs"]) == list(again["outputs"])


def test_a_bad_row_does_not_change_what_the_rows_after_it_draw(file_registry, generator):
    settings = {"max_new_tokens": 8, "do_sample": True}
    mv = file_registry.log_folder(generator, model_name="gpt", task="text-generation", pipeline_kwargs=settings)
    whole = mv.run(pd.DataFrame({"inputs": ["one", "two", "three"]}), seed=7)
    broken = mv.run(pd.DataFrame({"inputs": [None, "two", "three"]}), seed=7, on_row_error="null")
    assert broken["outputs"].isna().tolist() == [True, False, False]
    assert broken["outputs"].tolist()[1:] == whole["outputs"].tolist()[1:]


def test_a_content_is_loaded_once_by_all_threads_and_names(file_registry, classifier, best):
    release_residents()
    twin = file_registry.log_folder(classifier, model_name="twin", version_name="v1", task=TASK)
    with ThreadPoolExecutor(4) as threads:
        engines = list(threads.map(lambda version: version.engine(), [best, twin, best, twin]))
    assert len({id(engine) for engine in engines}) == 1


def test_versions_of_two_families_share_no_engine(file_registry, classifier, best):
    import dataclasses

    release_residents()
    twin = file_registry.log_folder(classifier, model_name="twin", version_name="v1", task=TASK)
    other = {"4": "5.0.0", "5": "4.57.0"}[twin.spec.family]
    twin.manifest = dataclasses.replace(twin.manifest, spec=dataclasses.replace(twin.spec, transformers_version=other))

    assert twin.engine() is not best.engine()
    assert twin.engine().loaded.spec.transformers_version == other
    assert resident_digests() == [best.content_digest, twin.content_digest]


def test_threads_run_one_version_at_the_same_time(best):
    frame = pd.DataFrame({"text": TEXTS})
    expected = best.run(frame)
    together = threading.Barrier(4)

    def run(_):
        together.wait()
        return best.run(frame)

    with ThreadPoolExecutor(4) as threads:
        for result in threads.map(run, range(4)):
            pd.testing.assert_frame_equal(result, expected)


def test_a_version_is_loaded_as_a_callable_pipeline(top2, classifier):
    pipe = top2.load()
    expected = pipeline(TASK, model=str(classifier), top_k=2)(TEXTS)
    assert pipe(TEXTS) == expected


def test_an_export_is_a_plain_folder_and_our_manifest(best, classifier, tmp_path):
    import transformers

    folder = best.export(tmp_path / "export")
    assert transformers.pipeline(TASK, model=str(folder))(TEXTS) == pipeline(TASK, model=str(classifier))(TEXTS)
    assert Manifest.from_bytes((folder / "hfreg_manifest.json").read_bytes(), "export") == best.manifest
    with pytest.raises(FileExistsError, match="not empty"):
        best.export(folder)


def test_an_export_is_logged_again_as_the_same_content(file_registry, best, tmp_path):
    again = file_registry.log_folder(best.export(tmp_path / "export"), model_name="copy", task=TASK)
    assert again.content_digest == best.content_digest


def test_a_model_too_large_is_refused_before_it_is_fetched(file_url, best, tmp_path):
    import dataclasses

    counted = FaultyStore(LocalStore(file_url))
    mv = Registry(counted, cache_folder=tmp_path / "cold").resolve("finbert/best")
    huge = dataclasses.replace(mv.manifest, spec=dataclasses.replace(mv.spec, parameter_count=10**13))
    mv.manifest = huge
    release_residents()
    for start in (mv.engine, mv.load, lambda: mv.load(verify=True)):
        with pytest.raises(ModelTooLargeError, match="GiB and only"):
            start()
    assert counted.faults.calls["download"] == 0


def test_a_damaged_blob_is_never_a_model(file_url, best, tmp_path):
    store = LocalStore(file_url)
    weights = next(file for file in best.manifest.files if file.path.endswith(".safetensors"))
    content = bytearray(store.get(weights.key))
    content[-1] ^= 1
    store.put(weights.key, bytes(content))
    release_residents()
    with pytest.raises(DigestMismatchError, match=weights.key):
        Registry(file_url, cache_folder=tmp_path / "cold").resolve("finbert/best").engine()
