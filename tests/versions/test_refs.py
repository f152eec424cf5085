"""Heads and states: what an edit does to a document, without any store."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_hfreg.errors import AliasNotFoundError, VersionInUseError, VersionNotFoundError
from airflow_provider_hfreg.versions.documents import read_document
from airflow_provider_hfreg.versions.manifest import Annotations
from airflow_provider_hfreg.versions.refs import Head, State

versions = st.sampled_from(["v1", "v2", "v3"])
aliases = st.sampled_from(["champion", "challenger"])
edits = st.one_of(
    st.tuples(st.just("with_default"), versions | st.none()),
    st.tuples(st.just("with_alias"), aliases, versions),
    st.tuples(st.just("without_alias"), aliases),
    st.tuples(st.just("with_tombstone"), versions, st.just("2026-01-01")),
    st.tuples(st.just("with_metrics"), st.dictionaries(st.sampled_from("ab"), st.none() | st.floats(0, 1), max_size=2)),
    st.tuples(st.just("without_metric"), st.sampled_from("ab")),
    st.tuples(st.just("with_tags"), st.dictionaries(st.sampled_from("ab"), st.none() | st.text(max_size=3))),
    st.tuples(st.just("with_comment"), st.none() | st.text(max_size=3)),
)


def after(edits_made):
    head = Head()
    for name, *arguments in edits_made:
        try:
            head = getattr(head, name)(*arguments).stamped("op")
        except (VersionInUseError, AliasNotFoundError, VersionNotFoundError):
            continue
    return head


@given(st.lists(edits, max_size=30))
def test_no_pointer_ever_holds_a_deleted_version(edits_made):
    head = after(edits_made)
    assert not {head.default, *head.aliases.values()} & set(head.tombstones)


@given(st.lists(edits, max_size=30))
def test_a_head_is_read_back_as_it_was_written(edits_made):
    head = after(edits_made)
    assert Head.from_plain(read_document(head.to_bytes(), "here")) == head


def test_a_transition_leaves_the_document_it_was_given():
    head = Head().with_alias("champion", "v1")
    head.with_alias("champion", "v2")
    assert head.aliases == {"champion": "v1"}


def test_a_version_in_use_is_not_deleted_and_the_message_names_who_holds_it():
    head = Head().with_default("v1").with_alias("champion", "v1").with_alias("live", "v1")
    with pytest.raises(VersionInUseError, match=r"'v1' is the default and alias 'champion' and alias 'live'"):
        head.with_tombstone("v1", "2026-01-01")


def test_an_unknown_alias_says_which_there_are():
    with pytest.raises(AliasNotFoundError, match="champion → v1"):
        Head().with_alias("champion", "v1").without_alias("chmpion")


def test_a_document_keeps_its_last_operations_and_counts_all():
    head = Head()
    for number in range(200):
        head = head.stamped(str(number))
    assert head.revision == 200
    assert head.operations[-1] == "199"
    assert len(head.operations) == 64


def test_a_head_written_before_models_had_metrics_is_read_and_has_none():
    plain = read_document(Head().with_alias("champion", "v1").with_tags({"a": "b"}).stamped("op").to_bytes(), "here")
    del plain["metrics"]
    head = Head.from_plain(plain)
    assert (head.aliases, head.tags, head.metrics) == ({"champion": "v1"}, {"a": "b"}, {})
    assert head.with_metrics({"f1": None}).without_metric("f1") == head


def test_what_is_said_about_a_model_changes_by_its_own_edit_alone():
    head = Head().with_tags({"a": "b"}).with_metrics({"f1": 0.5}).with_comment("checked")
    assert (head.tags, head.metrics, head.comment) == ({"a": "b"}, {"f1": 0.5}, "checked")
    assert head.with_metrics({"auc": None}).metrics == {"f1": 0.5, "auc": None}
    forgotten = head.with_all_deleted(["v1"], "2026-01-01")
    assert (forgotten.tags, forgotten.metrics, forgotten.comment) == ({}, {}, None)


def test_a_tag_given_as_none_is_removed_and_a_metric_given_as_none_is_null():
    state = State(Annotations({"team": "risk", "stage": "trial"}, {"f1": 0.5}))
    assert state.with_tags({"stage": None, "owner": "ana"}).annotations.tags == {"team": "risk", "owner": "ana"}
    assert state.with_metrics({"auc": None}).annotations.metrics == {"f1": 0.5, "auc": None}
    assert state.without_metric("f1").annotations.metrics == {}


def test_a_state_is_read_back_as_it_was_written():
    state = State(Annotations({"a": "b"}, {"matrix": [[1, 2]]}, "größer")).stamped("op")
    assert State.from_plain(read_document(state.to_bytes(), "here")) == state


@pytest.mark.parametrize("kind", [Head, State])
def test_what_a_newer_package_wrote_outlives_an_edit_of_an_older_one(kind):
    newer = {"comment": "ready", "gates": {"f1": [0.8, None]}, "owner": "ana"}
    edited = kind.from_plain(newer).with_tags({"stage": "live"}).stamped("op")
    stored = read_document(edited.to_bytes(), "there")
    assert {"gates": stored["gates"], "owner": stored["owner"]} == {"gates": {"f1": [0.8, None]}, "owner": "ana"}
    assert (stored["tags"], stored["comment"], stored["revision"]) == ({"stage": "live"}, "ready", 1)
    assert kind.from_plain(stored) == edited
