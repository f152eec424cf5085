"""What a person gets who makes a mistake: one sentence that says what, where and what to do, and the right status."""

import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["show", "finbrt"], "There is no model 'finbrt'"),
        (["show", "finbert/v9"], "has no version 'v9'. It has 'v1', 'v2'"),
        (["show", "finbert@nobody"], "There is no alias 'nobody'. Aliases: none was set."),
        (["show", "a/b/c"], "write 'model/version', 'model@alias', or 'model'"),
        (["alias", "finbert", "v1"], "names no alias: write MODEL@ALIAS"),
        (["alias", "finbert@champion", "v9"], "has no version 'v9'"),
        (["alias", "finbert@LAST", "v1"], "The alias 'LAST' is reserved"),
        (["alias", "finbert@champion", "v1", "--remove"], "Give either a version or --remove."),
        (["default", "finbert", "v9"], "has no version 'v9'"),
        (["tag", "finbert/v9", "a=b"], "has no version 'v9'"),
        (["tag", "finbert/v1", "key=hf_" + "a" * 34], "holds a Hugging Face token"),
        (["show", "finbert/v1", "--used-in", "nowhere"], "Nothing lies below file://"),
        (["search", "--metric", "accuracy"], "compares no metric"),
        (["search", "--metric", "accuracy => 0.9"], "compares no metric"),
        (["search", "--metric", "accuracy >= 0,9"], "looks like a number and is none"),
        (["copy", "finbert/v1", "finbert@x"], "is an alias: write MODEL/VERSION"),
        (["copy", "finbert/v1", "finbert/v2"], "exists with other content"),
        (["import", "nowhere"], "there is nothing to log"),
        (["export", "finbert/v1", "."], "is not empty"),
        (["export", "finbert/v1", "s3://bucket/exports"], "is no folder of this machine"),
        (["export", "finbert/v1", "/dev/null"], "is a file"),
        (["export", "finbert/v1", "/dev/null/x"], "A file is where a folder should be"),
        (["log", "nowhere", "--model", "m", "--task", "text-classification"], "there is nothing to log"),
        (["log", "hub:a/b", "--model", "a/b", "--task", "ner"], "'a-b' would do"),
        (["delete", "finbert"], "name one version, MODEL/VERSION"),
        (["delete", "finbert@FIRST", "--yes"], "name one version, MODEL/VERSION"),
        (["delete", "finbert/v1", "--yes"], "is the default (the oldest, as none was set)"),
        (["delete", "finbert/v9"], "has no version 'v9'"),
        (["models", "--registry", "ftp://x"], "is no storage URL"),
        (["models", "--registry", "s3://"], "names no bucket"),
    ],
)
def test_a_mistake_ends_with_a_sentence_and_status_1(finbert, arguments, said):
    ended = finbert.here(*arguments)
    assert (ended.status, ended.out) == (1, "")
    assert said in ended.err
    assert ended.err.splitlines()[-1].startswith("python -m airflow_provider_hfreg: ")
    assert "Traceback" not in ended.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "COMMAND"),
        (["frobnicate"], "invalid choice: 'frobnicate'"),
        (["show"], "MODEL/VERSION"),
        (["tag", "finbert/v1", "novalue"], "'novalue' is no key=value"),
        (["metric", "finbert/v1", 'report={"f1": '], "the value of 'report' is no JSON"),
        *(
            (["metric", "finbert/v1", f"auc={value}"], f"'{value}', which looks like a number and is none: write it as")
            for value in ("NaN", ".91", "0,91", "91%", "+1", "1_000", ".5e-3", "-Infinity")
        ),
        (
            ["metric", "finbert/v1", "auc=91%"],
            """or, if it is a text, in double quotes inside of single ones: 'auc="91%"'""",
        ),
        (
            ["log", "x", "--model", "m", "--task", "t", "--metric", "auc=.91"],
            "the value of 'auc' is '.91', which looks",
        ),
        (
            ["log", "x", "--model", "m", "--task", "t", "--param", "temperature=0,5"],
            "write it as JSON does, such as 0.9",
        ),
        (["log", "x", "--model", "m"], "--task"),
        (["run", "finbert", "in.csv", "out", "--max-row-errors", "many"], "--max-row-errors"),
    ],
)
def test_wrong_usage_is_told_with_status_2(on_folder, arguments, said):
    ended = on_folder.here(*arguments)
    assert (ended.status, ended.out) == (2, "")
    assert said in ended.err
    assert "usage: python -m airflow_provider_hfreg" in ended.err


def test_no_registry_is_told_how_to_name_one(on_folder):
    ended = on_folder.here("models", HFREG_REGISTRY="")
    assert ended.status == 1
    assert "Give --registry s3://bucket/prefix or file:///folder, or set HFREG_REGISTRY." in ended.err


def test_wrong_keys_are_told_without_repeating_them(hfreg):
    if hfreg.url.startswith("file"):
        pytest.skip("a folder has no keys")
    ended = hfreg("models", AWS_SECRET_ACCESS_KEY="a-wrong-secret-that-nobody-must-see")
    assert ended.status == 1
    assert "Traceback" not in ended.err
    assert "a-wrong-secret" not in ended.err + ended.out


def test_a_damaged_blob_is_named_with_the_versions_that_need_it(finbert):
    blob = next(path for path in (finbert.folder / "store" / "blobs").rglob("*") if len(path.name) == 64)
    content = bytearray(blob.read_bytes())
    content[-1] ^= 1
    blob.write_bytes(content)
    ended = finbert.here("verify", "finbert")
    assert (ended.status, ended.err) == (1, "")
    assert blob.name in ended.out
    assert "finbert/v1, finbert/v2" in ended.out
    blob.unlink()
    [damage] = finbert.here("verify", "--json").plain["damages"]
    assert (damage["problem"], damage["needed_by"]) == ("is missing", ["finbert/v1", "finbert/v2"])


def test_nothing_is_deleted_without_yes_and_what_was_deleted_is_told_as_such(finbert):
    told = finbert.here("delete", "finbert/v2")
    assert (told.status, told.out.splitlines()[-1]) == (0, "Nothing was deleted. Give --yes to do it.")
    assert finbert.here("show", "finbert/v2").status == 0
    finbert.here("gc")
    assert finbert.here("delete", "finbert/v2", "--yes").status == 0
    for command in (("show", "finbert/v2"), ("alias", "finbert@x", "v2"), ("delete", "finbert/v2", "--yes")):
        ended = finbert.here(*command)
        assert ended.status == 1
        assert "Version 'v2' of model 'finbert' was deleted at 20" in ended.err
    foreseen = finbert.here("gc", "--json").plain
    assert (foreseen["dry_run"], foreseen["deleted_versions"]) == (True, ["models/finbert/versions/v2.json"])
    assert finbert.here("gc", "--yes", "--json").plain["deleted_versions"] == foreseen["deleted_versions"]
    assert finbert.here("gc", "--json").plain["deleted_versions"] == []


def test_a_version_whose_document_is_cut_off_is_deleted_by_its_name(finbert):
    document = finbert.folder / "store" / "models" / "finbert" / "versions" / "v2.json"
    document.write_bytes(document.read_bytes()[:100])
    assert "is no document of this package" in finbert.here("show", "finbert/v2").err
    told = finbert.here("delete", "finbert/v2")
    assert (told.status, told.out.splitlines()[0]) == (0, "Would delete finbert/v2 (1 version(s)): v2.")
    assert finbert.here("delete", "finbert/v2", "--yes").status == 0
    assert "was deleted at 20" in finbert.here("show", "finbert/v2").err


def test_where_no_run_used_a_version_it_is_told_how_many_were_looked_at(finbert):
    told = finbert.here("show", "finbert/v1", "--used-in", "store")
    assert (told.status, told.out.splitlines()[-1]) == (0, "None of the 0 batch run(s) there used it.")
    plain = finbert.here("show", "finbert/v1", "--used-in", "store", "--json").plain
    assert (plain["used_by"], plain["runs_looked_at"]) == ([], 0)


def test_what_is_told_without_yes_is_what_yes_does(finbert):
    """Each deletion in turn, on what the one before left: told first, then done."""
    finbert.here("alias", "finbert@champion", "v2")
    steps = (
        (("delete", "finbert/v1"), "is the default (the oldest, as none was set)"),
        (("delete", "finbert/v2"), "is alias 'champion'"),
        (("delete", "finbert", "--all-versions"), "it has alias 'champion' → v2"),
        (("alias", "finbert@champion", "--remove"), None),
        (("delete", "finbert/v2"), None),
        (("delete", "finbert/v1"), None),  # the only one that is left, and no default was set
    )
    for command, refusal in steps:
        if command[0] == "alias":
            assert finbert.here(*command).status == 0
            continue
        told, plain = finbert.here(*command), finbert.here(*command, "--json").plain
        done = finbert.here(*command, "--yes")
        assert told.status == 0
        if refusal is None:
            assert (told.out.startswith("Would delete finbert"), plain["refused"], done.status) == (True, None, 0)
        else:
            assert told.out.startswith("Would refuse to delete finbert")
            assert refusal in told.out
            assert refusal in plain["refused"]
            assert (done.status, plain["refused"] in done.err) == (1, True)


def test_a_document_that_is_no_json_is_named(finbert):
    head = finbert.folder / "store" / "models" / "finbert" / "head.json"
    head.write_text("{broken")
    ended = finbert.here("show", "finbert")
    assert ended.status == 1
    assert "head.json is no document of this package" in ended.err


def test_the_end_of_a_pipe_is_no_error(finbert):
    command = f"{sys.executable} -m airflow_provider_hfreg versions finbert | true; echo ${{PIPESTATUS[0]}}"
    environment = {**os.environ, **finbert.environment}
    ended = subprocess.run(["bash", "-c", command], env=environment, capture_output=True, text=True, check=False)
    assert (ended.stdout, ended.stderr) == ("0\n", "")
