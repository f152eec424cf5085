"""A task that this package does not have: one class and one entry of the catalogue, and everything runs it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from airflow_provider_hfreg.pipelines import catalog
from airflow_provider_hfreg.pipelines.base import Forward, PipelineTask, Results, Sequences
from airflow_provider_hfreg.pipelines.scores import softmax
from airflow_provider_hfreg.registry import Registry
from airflow_provider_hfreg.runs.batch import run_batch
from airflow_provider_hfreg.runs.spec import BatchRequest
from airflow_provider_hfreg.signatures import DataType, FeatureSpec, ModelSignature
from airflow_provider_hfreg.testing.models import text_classifier

COMMENTS = ["the film was good", "", "a dull plot", "größtenteils köstlich " * 40]


class ShareOfFirst(PipelineTask):
    """How likely the first of a classifier's labels is."""

    name = "share-of-first"
    auto_class = "AutoModelForSequenceClassification"
    heads = ("ForSequenceClassification",)
    forward = Forward.SEQUENCE_LOGITS

    def signature(self, parameters):
        return ModelSignature(
            (FeatureSpec("comment", DataType.STRING),),
            (FeatureSpec("share", DataType.DOUBLE), FeatureSpec("length", DataType.INT64)),
        )

    def parameters_of(self, preprocess, forward, postprocess):
        return {}

    def preprocess(self, rows, context):
        every = np.arange(rows.num_rows, dtype=np.int64)
        return Sequences(row=every, text=rows.column("comment"), encoding={"truncation": True})

    def postprocess(self, outputs, rows, context):
        lengths = pa.compute.utf8_length(rows.column("comment")).take(pa.array(outputs.row)).cast(pa.int64())
        logits = outputs.values["logits"]  # noqa: PD011  no frame
        share = softmax(logits)[:, 0].astype(np.float64)
        return Results(outputs.row, {"share": pa.array(share), "length": lengths})


@pytest.fixture
def version(tmp_path, monkeypatch):
    monkeypatch.setitem(catalog._BY_NAME, ShareOfFirst.name, ShareOfFirst())
    registry = Registry((tmp_path / "registry").as_uri(), cache_folder=tmp_path / "cache")
    folder = text_classifier(tmp_path / "model")
    registry.log_folder(
        folder,
        model_name="known",
        task="text-classification",
        pipeline_kwargs={"top_k": 3, "truncation": True},
    )
    return registry.log_folder(folder, model_name="new", task="share-of-first")


def expected(version, tmp_path):
    known = Registry(version.registry_url, cache_folder=tmp_path / "cache").resolve("known")
    found = known.run(pd.DataFrame({"text": COMMENTS}), output_format="struct")["outputs"]
    return [next(one["score"] for one in row if one["label"] == "negative") for row in found]


def test_it_is_logged_shown_and_run_over_a_frame(version, tmp_path):
    (function,) = version.show_functions()
    assert [feature.name for feature in function["signature"].outputs] == ["share", "length"]

    result = version.run(pd.DataFrame({"comment": [*COMMENTS, None]}), on_row_error="null")

    assert result["length"].tolist()[:4] == [len(text) for text in COMMENTS]
    assert result["share"].isna().tolist() == [False, False, False, False, True]
    assert result["share"].tolist()[:4] == pytest.approx(expected(version, tmp_path), abs=1e-5)


def test_it_is_run_over_a_table_and_its_pipeline_is_called(version, tmp_path):
    (tmp_path / "in").mkdir()
    pq.write_table(pa.table({"comment": COMMENTS}), tmp_path / "in" / "a.parquet")
    request = BatchRequest((tmp_path / "in").as_uri(), (tmp_path / "out").as_uri(), rows_per_shard=3)

    report = run_batch(request, version=version, identity="me", registry_url=version.registry_url)

    assert (report.rows_ok, report.parts) == (4, 2)
    called = [version.load()(text) for text in COMMENTS]
    assert [one["share"] for one in called] == pytest.approx(expected(version, tmp_path), abs=1e-5)
