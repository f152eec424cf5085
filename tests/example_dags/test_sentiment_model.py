"""The example's training, on texts of which the feeling is plain."""

from __future__ import annotations

import pytest
import sentiment_model
from sentiment_workspace import Settings

SETTINGS = Settings(vocabulary_size=300, batch_rows=32, epochs=4)


@pytest.fixture(scope="module")
def trained(easy_table, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    return folder, sentiment_model.train(easy_table, folder, SETTINGS)


def test_it_learns(trained):
    _, metrics = trained
    assert metrics["accuracy"] > 0.95 > metrics["majority"]
    assert (metrics["train_rows"], metrics["held_out_rows"]) == (800, 200)


def test_it_writes_a_plain_hugging_face_folder_with_safetensors(trained):
    from transformers import pipeline

    folder, _ = trained
    assert (folder / "model.safetensors").exists()
    answers = pipeline("text-classification", model=str(folder))(["text 7: lovely!", "text 8: awful!"])
    assert [answer["label"] for answer in answers] == ["POSITIVE", "NEGATIVE"]


def test_the_same_rows_and_settings_give_the_same_bytes(trained, easy_table, tmp_path):
    folder, _ = trained
    sentiment_model.train(easy_table, tmp_path, SETTINGS)
    for file in folder.iterdir():
        assert (tmp_path / file.name).read_bytes() == file.read_bytes(), file.name


def test_fewer_rows_are_learnt_from_on_request(easy_table, tmp_path):
    metrics = sentiment_model.train(easy_table, tmp_path, Settings(train_rows=100, vocabulary_size=200, epochs=1))
    assert metrics["train_rows"] == 100
