"""Finding versions by what they are and what is said of them; and showing what there is."""

import pytest

from airflow_provider_hfreg.errors import InvalidOptionError
from airflow_provider_hfreg.registry import Registry
from airflow_provider_hfreg.storage.local import LocalStore
from airflow_provider_hfreg.testing.faults import FaultyStore

TASK = "text-classification"


@pytest.fixture
def filled(registry, classifier, generator):
    """Two classifiers of one model, one of another, and a generator."""
    log = registry.log_folder
    log(
        classifier,
        model_name="finbert",
        version_name="v1",
        task=TASK,
        metrics={"accuracy": 0.85, "report": {"f1": 0.7}},
    )
    log(
        classifier,
        model_name="finbert",
        version_name="v2",
        task="sentiment-analysis",
        metrics={"accuracy": 0.9},
        tags={"team": "risk"},
    )
    log(classifier, model_name="spam", version_name="v1", task=TASK, metrics={"accuracy": "high"})
    log(generator, model_name="bloom", version_name="v1", task="text-generation", tags={"team": "chat"})
    registry.get_model("spam").version("v1").set_tags({"team": "risk"})
    return registry


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, ["bloom/v1", "finbert/v1", "finbert/v2", "spam/v1"]),
        ({"task": TASK}, ["finbert/v1", "finbert/v2", "spam/v1"]),
        ({"task": "sentiment-analysis", "models": "f*"}, ["finbert/v1", "finbert/v2"]),
        ({"metrics": "accuracy >= 0.9"}, ["finbert/v2"]),
        ({"metrics": ["accuracy > 0.8", "accuracy < 0.9"]}, ["finbert/v1"]),
        ({"metrics": "report.f1 == 0.7"}, ["finbert/v1"]),
        ({"metrics": "accuracy == high"}, ["spam/v1"]),
        ({"metrics": "accuracy != 0.9"}, ["finbert/v1"]),
        ({"metrics": "recall != 1"}, []),
        ({"tags": {"team": "risk"}}, ["finbert/v2", "spam/v1"]),
        ({"tags": {"team": None}}, ["bloom/v1", "finbert/v2", "spam/v1"]),
        ({"tags": {"team": "risk"}, "metrics": "accuracy >= 0.5"}, ["finbert/v2"]),
        ({"task": "image-classification"}, []),
    ],
)
def test_versions_are_found_by_task_tags_and_metrics(filled, asked, expected):
    assert [version.reference for version in filled.search(**asked)] == expected


@pytest.mark.parametrize(
    "asked",
    [
        *({"metrics": text} for text in ("accuracy", "accuracy => 0.9", "accuracy =< 0.9", "accuracy >>= 1", "> 1")),
        *({"metrics": f"accuracy >= {value}"} for value in ("0,9", "90%", ".9", "1_000", "+1", "1.2.3", "NaN", "= 1")),
        {"metrics": {"accuracy": 0.9}},
        {"metrics": [0.9]},
        {"tags": ["team"]},
    ],
)
def test_what_is_no_question_is_refused(file_registry, asked):
    with pytest.raises(InvalidOptionError):
        file_registry.search(**asked)


def test_what_there_is_is_shown_as_frames(filled):
    filled.get_model("finbert").set_alias("champion", "v2")
    filled.get_model("finbert").set_tags({"owner": "ana"})
    models = filled.show_models()
    assert list(models["name"]) == ["bloom", "finbert", "spam"]
    assert list(models["versions"]) == [1, 2, 1]
    assert list(models["default_version_name"]) == ["v1", "v1", "v1"]
    assert models["aliases"][1] == {"champion": "v2"}
    tags = filled.get_model("finbert").show_tags()
    assert tags.to_dict("list") == {"tag_name": ["owner"], "value": ["ana"]}
    first = filled.resolve("finbert/v1")
    assert first.show_metrics().to_dict("list") == {
        "metric_name": ["accuracy", "report"],
        "value": [0.85, {"f1": 0.7}],
    }
    assert list(first.show_tags().columns) == ["tag_name", "value"]
    assert len(first.show_tags()) == 0


def test_an_empty_registry_is_shown_as_an_empty_frame_with_its_columns(file_registry):
    models = file_registry.show_models()
    assert len(models) == 0
    assert {"name", "versions", "aliases"} <= set(models.columns)
    assert file_registry.search() == []


def test_a_deleted_version_is_found_and_shown_no_more(filled):
    filled.get_model("finbert").delete_version("v2")
    filled.get_model("spam").delete()
    assert [version.reference for version in filled.search()] == ["bloom/v1", "finbert/v1"]
    assert list(filled.show_models()["name"]) == ["bloom", "finbert"]


def test_what_a_search_asks_of_the_store_is_bounded_as_it_says(file_url, classifier, tmp_path):
    store = FaultyStore(LocalStore(file_url))
    registry = Registry(store, cache_folder=tmp_path / "cache")
    for model in ("a", "b"):
        for number in range(3):
            registry.log_folder(
                classifier, model_name=model, version_name=f"v{number}", task=TASK, pipeline_kwargs={"top_k": number}
            )
    registry.resolve("a/v1").set_tags({"team": "risk"})
    store.faults.calls.clear()
    assert len(registry.search()) == 6
    assert store.faults.calls == {"list_names": 1, "list_infos": 4, "get_with_etag": 2 + 1, "get": 6}
    store.faults.calls.clear()
    assert len(registry.search(models="b")) == 3
    assert store.faults.calls == {"list_names": 1, "list_infos": 2, "get_with_etag": 1, "get": 3}
