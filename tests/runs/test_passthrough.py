"""A batch run through a function with a given signature: like any other, tokens aside."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from airflow_provider_hfreg.errors import InvalidRunOptionError
from airflow_provider_hfreg.signatures import DataType, FeatureSpec, ModelSignature

SAMPLES = FeatureSpec("samples", DataType.FLOAT, (-1,))
OUTPUTS = FeatureSpec("outputs", DataType.STRING)


@pytest.fixture(scope="session")
def listener(registry, tmp_path_factory):
    """A tiny audio classifier with two functions."""
    from airflow_provider_hfreg.testing.audio_models import audio_classifier

    signature = ModelSignature([SAMPLES], [OUTPUTS])
    return registry.log_folder(
        audio_classifier(tmp_path_factory.mktemp("audio") / "model"),
        model_name="ear",
        version_name="v1",
        task="audio-classification",
        options={"target_methods": ["__call__", "transform"]},
        signatures={"__call__": signature, "transform": signature},
    )


@pytest.fixture
def sounds(file_place, tmp_path):
    """25 sounds, two of which cannot be heard, in Parquet."""
    samples = [[0.25 * (number % 5)] * (100 + number) for number in range(25)]
    samples[7], samples[20] = None, []
    table = pa.table({"id": list(range(25)), "samples": pa.array(samples, pa.list_(pa.float64()))})
    pq.write_table(table, tmp_path / "sounds.parquet")
    file_place.store.put("in/sounds.parquet", (tmp_path / "sounds.parquet").read_bytes())
    return file_place


def scored(place, name):
    keys = sorted(info.key for info in place.store.below(name).list_infos("part-"))
    return pa.concat_tables([pq.read_table(pa.BufferReader(place.store.below(name).get(key))) for key in keys])


def test_every_row_has_its_result_or_its_reason(sounds, listener):
    report = sounds.run(version=listener)
    assert (report.rows_in, report.rows_ok, report.rows_quarantined) == (25, 23, 2)
    table = scored(sounds, "out")
    assert table.column("id").to_pylist() == [number for number in range(25) if number not in (7, 20)]
    assert table.column("outputs").type == pa.string()
    frame = pa.table({"samples": [[0.25] * 101]}).to_pandas()
    assert table.column("outputs")[1].as_py() == listener.run(frame)["outputs"].iloc[0]


def test_another_function_is_another_run_of_the_same_results(sounds, listener):
    sounds.run(version=listener)
    sounds.run(version=listener, function_name="TRANSFORM", output=f"{sounds.url}/other", identity="other")
    assert scored(sounds, "other").equals(scored(sounds, "out"))


def test_a_budget_of_tokens_is_refused(sounds, listener):
    with pytest.raises(InvalidRunOptionError, match=r"'__call__' of ear/v1 is called with rows"):
        sounds.run(version=listener, token_budget=100)


def test_another_precision_is_refused_and_nothing_is_written(sounds, listener):
    with pytest.raises(InvalidRunOptionError, match=r"'__call__' of ear/v1 is a method with a signature of its own"):
        sounds.run(version=listener, precision="bf16")
    assert sounds.names() == []


def test_its_own_precision_is_none_to_choose_and_threads_are_told(sounds, listener):
    report = sounds.run(version=listener, precision=listener.spec.dtype, threads=2)
    assert (report.precision, report.numerics, report.threads, report.token_budgets) == (None, None, (2,), ())
