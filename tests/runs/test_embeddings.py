"""A batch run of embeddings: Parquet with a list of 32-bit floats in each row."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from airflow_provider_hfreg.testing.encoder_models import sentence_embedder


@pytest.fixture
def embeddings(registry, tmp_path):
    return registry.log_folder(sentence_embedder(tmp_path / "model"), model_name="minilm", task="feature-extraction")


def test_a_run_writes_lists_of_floats_and_quarantines_the_rows_that_have_none(file_place, embeddings, texts):
    rows = [(number, None if number == 7 else text) for number, text in texts(25)]
    file_place.put_csv("in/a.csv", rows)

    report = file_place.run(version=embeddings, columns={"inputs": "text"}, rows_per_shard=10)

    assert (report.rows_ok, report.rows_quarantined) == (24, 1)
    result = file_place.result()
    assert result.schema.field("embedding").type == pa.list_(pa.field("element", pa.float32()))
    assert file_place.ids() == [number for number in range(25) if number != 7]
    frame = embeddings.run(pd.DataFrame({"inputs": [text for _, text in rows if text]}))
    assert np.abs(np.array(result["embedding"].to_pylist()) - np.array(frame["embedding"].tolist())).max() <= 1e-5
    [error] = file_place.errors(report)
    assert (error["row"], error["code"]) == (7, "null_value")
