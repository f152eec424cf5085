"""A registry's life on the command line, every step a process of its own, on a folder and on S3."""

import json

import pytest

pytestmark = pytest.mark.timeout(900)  # many processes, one of which loads torch


def test_a_version_is_logged_found_pointed_to_moved_and_checked(hfreg, model):
    logged = hfreg(
        *("log", model, "--model", "finbert", "--version", "v1", "--task", "text-classification", "--param", "top_k=2"),
        *("--metric", "accuracy=0.91", "--tag", "team=risk", "--alias", "champion", "--training-data", "s3://lake/x"),
    )
    assert (logged.status, logged.err) == (0, "Uploaded 4 of 4 files, 0.1 MB; the others were stored.\n")
    assert logged.out.startswith("Logged finbert/v1 (sha256:")
    assert "@champion" in logged.out

    shown = hfreg("show", "finbert@champion", "--json").plain
    assert (shown["reference"], shown["pipeline_parameters"]) == ("finbert/v1", {"top_k": 2})
    assert (shown["metrics"], shown["tags"]) == ({"accuracy": 0.91}, {"team": "risk"})
    assert shown["lineage"]["training_data"] == ["s3://lake/x"]

    assert hfreg("copy", "finbert/v1", "finbert/v2").status == 0
    moved = hfreg("alias", "finbert@champion", "v2")
    assert moved.out == "finbert@champion is finbert/v2 now; it was finbert/v1.\n"

    assert hfreg("export", "finbert@champion", "exported").status == 0
    imported = hfreg("import", "exported", "--as", "other/v9", "--json").plain
    assert imported["content_digest"] == shown["content_digest"]
    assert [version["version_name"] for version in hfreg("versions", "finbert", "--json").plain] == ["v1", "v2"]
    assert [one["name"] for one in hfreg("models", "--json").plain] == ["finbert", "other"]

    verified = hfreg("verify")
    assert (verified.status, "3 versions, 4 blobs" in verified.out) == (0, True)
    assert hfreg("probe", "--json").plain == {"writers": 16, "put_if_absent": True, "replace_if_match": True}


def test_a_table_is_run_and_the_version_knows_where_it_was_used(hfreg, model):
    hfreg("log", model, "--model", "finbert", "--version", "v1", "--task", "text-classification")
    (hfreg.folder / "texts.csv").write_text("body\nI like it.\nI do not.\n")
    ran = hfreg("run", "finbert", "texts.csv", "scores", "--column", "text=body", "--json")
    assert ran.status == 0, ran.err
    assert (ran.plain["rows_ok"], ran.plain["status"]) == (2, "completed")
    again = hfreg("run", "finbert", "texts.csv", "scores", "--column", "text=body", "--json").plain
    assert again["status"] == "already_completed"

    shown = hfreg("show", "finbert/v1", "--used-in", hfreg.folder, "--json").plain
    [use] = shown["used_by"]
    assert shown["runs_looked_at"] == 1
    assert (use["batch_run_id"], use["reference"], use["is_finished"]) == (
        ran.plain["batch_run_id"],
        "finbert/v1",
        True,
    )
    assert json.loads(use["identity"])[0] == "command line"
    assert "used by run" in hfreg("show", "finbert/v1", "--used-in", hfreg.folder).out


def test_a_table_is_run_in_another_precision_and_a_versions_own_code_with_consent(on_folder, model):
    from airflow_provider_hfreg.testing.models import text_classifier_with_code

    coded = text_classifier_with_code(on_folder.folder / "coded")
    registry = on_folder.registry()
    options = {"task": "text-classification", "version_name": "v1"}
    registry.log_folder(model, model_name="finbert", **options)
    version = registry.log_folder(coded, model_name="coded", trust_remote_code=True, **options)
    (on_folder.folder / "texts.csv").write_text("text\nI like it.\nI do not.\n")

    sizes = ("--threads", "2", "--token-budget", "77")
    ran = on_folder.here("run", "finbert", "texts.csv", "half", "--precision", "bf16", *sizes, "--json").plain
    assert (ran["precision"], ran["threads"], ran["rows_ok"]) == ("bfloat16", [2], 2)
    assert ran["token_budgets"] == [77]
    told = on_folder.here("run", "finbert", "texts.csv", "half", "--precision", "bfloat16").out
    assert "already completed" in told
    assert "bfloat16: 8 significant bits" in told

    refused = on_folder.here("run", "coded", "texts.csv", "scores")
    assert refused.status == 1
    assert "--trust-remote-code" in refused.err
    assert on_folder.here("run", "coded", "texts.csv", "scores", "--trust-remote-code", "--json").plain["rows_ok"] == 2
    assert f"runs Python files of its own ({version.manifest.code_digest})" in on_folder.here("show", "coded/v1").out


@pytest.mark.parametrize("command", [("models",), ("versions", "finbert"), ("show", "finbert"), ("verify",)])
def test_an_empty_registry_is_told_and_left_as_it_is(hfreg, command):
    ended = hfreg(*command)
    assert "Traceback" not in ended.err
    if command[0] in ("versions", "show"):
        assert ended.status == 1
        assert "nothing was ever logged there" in ended.err
    else:
        assert ended.status == 0
    assert not list(hfreg.folder.glob("store/*"))
