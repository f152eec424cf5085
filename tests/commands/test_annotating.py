"""What is said of a version and of its model: set, shown and removed, each on its own."""

import pytest


@pytest.mark.parametrize(
    ("command", "given", "shown", "remove"),
    [
        ("metric", 'least={"f1": 0.8}', {"least": {"f1": 0.8}}, ("--remove", "least")),
        ("tag", "owner=ana", {"owner": "ana"}, ("--remove", "owner")),
    ],
)
def test_a_bare_name_is_the_model_itself_and_default_its_default_version(finbert, command, given, shown, remove):
    def said(reference, *arguments):
        return finbert.here(command, reference, *arguments, "--json").plain[f"{command}s"]

    before = {version: said(f"finbert/{version}") for version in ("v1", "v2")}
    assert said("finbert") == {}
    assert said("finbert", given) == shown
    assert {version: said(f"finbert/{version}") for version in before} == before
    assert finbert.here("default", "finbert", "v2").status == 0
    assert said("finbert@DEFAULT", given) == before["v2"] | shown
    assert said("finbert/v1") == before["v1"]
    assert said("finbert", *remove) == {}
    assert said("finbert/v2") == before["v2"] | shown


def test_a_models_metrics_are_shown_among_the_models_and_searched_for_by_nobody(finbert):
    shown = finbert.here("metric", "finbert", "least_accuracy=0.9").out
    assert shown.splitlines()[0] == "Model finbert, of no version:"
    assert " ".join(shown.split()[5:]) == "metric value least_accuracy 0.9"
    assert "least_accuracy=0.9" in finbert.here("models").out
    [model] = finbert.here("models", "--json").plain
    assert model["metrics"] == {"least_accuracy": 0.9}
    assert finbert.here("search", "--metric", "least_accuracy >= 0").out == "No version fits.\n"


def test_metrics_of_a_model_that_is_not_there_are_refused(finbert):
    ended = finbert.here("metric", "finbrt", "f1=0.5")
    assert (ended.status, ended.out) == (1, "")
    assert "There is no model 'finbrt'" in ended.err


@pytest.mark.parametrize("given", [("metric", "f1=0.5"), ("tag", "owner=ana"), ("comment", "ready")])
def test_it_is_said_of_which_version_something_was_set(finbert, given):
    command, value = given
    assert finbert.here("default", "finbert", "v2").status == 0
    ended = finbert.here(command, "finbert@DEFAULT", value)
    assert ended.out.startswith("Version finbert/v2:\n")
    assert finbert.here(command, "finbert@DEFAULT", "--json").plain["about"] == "finbert/v2"


def test_what_looks_like_a_number_is_a_text_where_it_is_quoted_or_set_from_python(finbert):
    ended = finbert.here("metric", "finbert/v1", 'quoted="91%"', "day=2026-01-02", "share=0.91", "--json")
    assert ended.plain["metrics"] == {"accuracy": 0.4, "quoted": "91%", "day": "2026-01-02", "share": 0.91}
    finbert.registry().resolve("finbert/v2").set_metrics({"quoted": "91%", "share": ".91"})
    assert finbert.here("metric", "finbert/v2", "--json").plain["metrics"]["share"] == ".91"
    fit = [version["version_name"] for version in finbert.here("search", "--metric", 'quoted == "91%"', "--json").plain]
    assert fit == ["v1", "v2"]
    fit = [version["version_name"] for version in finbert.here("search", "--metric", "share > 0.9", "--json").plain]
    assert fit == ["v1"]


@pytest.mark.parametrize("value", [".91", "91%", " 0,91", "nan"])
def test_a_number_that_is_none_is_refused_and_nothing_is_set(finbert, value):
    ended = finbert.here("metric", "finbert/v1", f"auc={value}")
    assert (ended.status, ended.out) == (2, "")
    assert finbert.here("metric", "finbert/v1", "--json").plain["metrics"] == {"accuracy": 0.4}
