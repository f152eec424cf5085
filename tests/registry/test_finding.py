"""Finding versions: references, pointers, errors that list what there is."""

import pytest

from airflow_provider_hfreg.errors import (
    AliasNotFoundError,
    DigestMismatchError,
    InvalidNameError,
    InvalidOptionError,
    ModelNotFoundError,
    ModelReferenceError,
    UnknownFormatError,
    VersionNotFoundError,
)
from airflow_provider_hfreg.registry import Registry
from airflow_provider_hfreg.storage.local import LocalStore
from airflow_provider_hfreg.testing.faults import FaultyStore

TASK = "text-classification"


@pytest.fixture
def finbert(registry, classifier):
    """A model of three versions."""
    for number in (1, 2, 3):
        registry.log_folder(
            classifier,
            model_name="finbert",
            version_name=f"v{number}",
            task=TASK,
            pipeline_kwargs={"top_k": number},
            metrics={"f1": number / 10},
        )
    return registry.get_model("finbert")


def test_versions_are_listed_oldest_first_even_if_logged_within_a_second(finbert):
    assert finbert.version_names() == ["v1", "v2", "v3"]
    assert [version.version_name for version in finbert.versions()] == ["v1", "v2", "v3"]
    assert (finbert.first().version_name, finbert.last().version_name) == ("v1", "v3")


def test_an_unset_default_is_the_oldest(finbert, registry):
    assert finbert.default.version_name == "v1"
    assert registry.resolve("finbert").version_name == "v1"
    finbert.set_default("v2")
    assert registry.resolve("finbert").version_name == "v2"
    finbert.set_default(None)
    assert registry.resolve("finbert").version_name == "v1"


def test_an_alias_is_set_moved_and_removed(finbert, registry):
    finbert.set_alias("champion", "v1")
    finbert.set_alias("champion", "v3")
    assert finbert.aliases() == {"champion": "v3"}
    assert registry.resolve("finbert@champion").version_name == "v3"
    finbert.delete_alias("champion")
    with pytest.raises(AliasNotFoundError):
        registry.resolve("finbert@champion")


@pytest.mark.parametrize(("alias", "version"), [("FIRST", "v1"), ("last", "v3"), ("Default", "v1")])
def test_every_model_has_the_systems_aliases(finbert, registry, alias, version):
    assert registry.resolve(f"finbert@{alias}").version_name == version


def test_an_alias_points_to_what_exists(finbert):
    with pytest.raises(VersionNotFoundError):
        finbert.set_alias("champion", "v9")
    with pytest.raises(VersionNotFoundError):
        finbert.set_default("v9")
    with pytest.raises(InvalidNameError):
        finbert.set_alias("LAST", "v1")


def test_what_people_say_is_edited_without_a_new_version(finbert, open_registry):
    version = finbert.version("v1")
    version.set_tags({"stage": "trial", "team": "risk"})
    version.set_tags({"stage": None})
    version.set_metrics({"auc": 0.8})
    version.delete_metric("f1")
    version.set_comment("checked")
    finbert.set_tags({"owner": "ana"})
    finbert.set_metrics({"least": {"f1": 0.8}, "cases": [3, None], "old": 1})
    finbert.delete_metric("old")
    finbert.delete_metric("never there")
    finbert.set_comment("sentiment of headlines")
    elsewhere = open_registry().get_model("finbert")
    assert elsewhere.version("v1").tags == {"team": "risk"}
    assert elsewhere.version("v1").metrics == {"auc": 0.8}
    assert elsewhere.version("v1").comment == "checked"
    assert elsewhere.version("v2").metrics == {"f1": 0.2}
    assert (elsewhere.tags, elsewhere.comment) == ({"owner": "ana"}, "sentiment of headlines")
    assert elsewhere.metrics == {"least": {"f1": 0.8}, "cases": [3, None]}
    [summary] = open_registry().model_summaries()
    assert summary.plain()["metrics"] == elsewhere.metrics


def test_a_models_metrics_are_shown_as_a_frame_with_their_values_as_they_are(finbert):
    assert finbert.show_metrics().empty
    finbert.set_metrics({"least": 0.8, "cases": [3, None], "note": None})
    frame = finbert.show_metrics()
    assert list(frame.columns) == ["metric_name", "value"]
    assert dict(zip(frame["metric_name"], frame["value"], strict=True)) == finbert.metrics
    assert finbert.metrics == {"least": 0.8, "cases": [3, None], "note": None}


def test_a_models_metric_that_json_cannot_hold_is_refused_by_its_path(finbert):
    with pytest.raises(InvalidOptionError, match=r"metrics\['report'\]\['f1'\]"):
        finbert.set_metrics({"report": {"f1": float("nan")}})
    assert finbert.metrics == {}


def test_versions_are_shown_as_a_frame(finbert):
    finbert.set_alias("champion", "v2")
    frame = finbert.show_versions()
    assert list(frame["version_name"]) == ["v1", "v2", "v3"]
    assert list(frame["is_default"]) == [True, False, False]
    assert list(frame["aliases"]) == [[], ["champion"], []]
    assert frame["metrics"][2] == {"f1": 0.3}


def test_an_unknown_version_lists_those_there_are_the_closest_first(finbert, registry):
    with pytest.raises(VersionNotFoundError, match=r"'finbert' in .* has no version 'V3'. It has 'v3', 'v1', 'v2'"):
        registry.resolve("finbert/V3")


def test_an_unknown_model_lists_those_there_are(finbert, registry):
    with pytest.raises(ModelNotFoundError, match=r"no model 'finbrt' in .* It holds 'finbert'"):
        registry.get_model("finbrt")
    for reference in ("finbrt", "finbrt/v1", "finbrt@champion", "finbrt@LAST"):
        with pytest.raises(ModelNotFoundError, match="It holds 'finbert'"):
            registry.resolve(reference)


def test_an_empty_registry_says_so_and_is_not_written_to(registry, open_registry):
    assert registry.models() == []
    with pytest.raises(ModelNotFoundError, match="nothing was ever logged there"):
        registry.get_model("finbert")
    with pytest.raises(ModelNotFoundError):
        registry.resolve("finbert@champion")
    assert open_registry().models() == []


def test_models_are_listed_by_name(finbert, registry, classifier):
    registry.log_folder(classifier, model_name="bloom", version_name="v1", task=TASK)
    assert [model.name for model in registry.models()] == ["bloom", "finbert"]


def test_what_logging_returned_finds_the_very_version(finbert, open_registry):
    reference = finbert.version("v2").to_reference()
    assert set(reference) >= {"registry", "model_name", "version_name", "content_digest"}
    assert open_registry().resolve(reference).version_name == "v2"


def test_a_reference_to_other_content_under_the_same_name_is_refused(finbert, registry):
    reference = finbert.version("v2").to_reference() | {"content_digest": finbert.version("v1").content_digest}
    with pytest.raises(DigestMismatchError, match="another model under the same name"):
        registry.resolve(reference)


@pytest.mark.parametrize("reference", ["", "a/b/c", {}, {"model_name": "finbert"}])
def test_what_is_no_reference_is_refused(file_registry, reference):
    with pytest.raises(ModelReferenceError):
        file_registry.resolve(reference)


def test_the_names_of_many_versions_cost_two_requests(file_url, classifier, tmp_path):
    counted = FaultyStore(LocalStore(file_url))
    registry = Registry(counted, cache_folder=tmp_path)
    for number in range(20):
        registry.log_folder(
            classifier, model_name="finbert", version_name=f"v{number}", task=TASK, pipeline_kwargs={"top_k": number}
        )
    model = registry.get_model("finbert")
    counted.faults.calls.clear()
    assert len(model.version_names()) == 20
    assert counted.faults.calls == {"get_with_etag": 1, "list_infos": 1}


def test_a_registry_of_a_newer_format_is_not_written_to(file_url, classifier, tmp_path):
    LocalStore(file_url).put("format.json", b'{"format_version": 9}')
    registry = Registry(file_url, cache_folder=tmp_path)
    with pytest.raises(UnknownFormatError, match="Upgrade"):
        registry.log_folder(classifier, model_name="finbert", task=TASK)
    with pytest.raises(UnknownFormatError, match="Upgrade"):
        registry.get_model("finbert")


def test_a_version_refers_to_itself_and_what_is_no_reference_is_told(file_registry, classifier):
    version = file_registry.log_folder(classifier, model_name="finbert", version_name="v1", task=TASK)
    assert file_registry.resolve(version).reference == "finbert/v1"
    for other in (None, 1, ["finbert", "v1"]):
        with pytest.raises(ModelReferenceError, match="refers to no version"):
            file_registry.resolve(other)
    with pytest.raises(InvalidNameError, match="a name is text"):
        file_registry.get_model("finbert").version(1)


def test_tags_set_later_must_be_a_dict(file_registry, classifier):
    version = file_registry.log_folder(classifier, model_name="finbert", version_name="v1", task=TASK)
    for holder in (version, file_registry.get_model("finbert")):
        with pytest.raises(InvalidOptionError, match="tags is"):
            holder.set_tags(["a"])
