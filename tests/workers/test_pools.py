"""Executor pools and settings: what is understood, what is refused, and which version may run where."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from airflow_provider_hfreg.errors import MessageRefusedError, PoolMismatchError, SettingsError
from airflow_provider_hfreg.runs.spec import BatchRequest
from airflow_provider_hfreg.workers.__main__ import main
from airflow_provider_hfreg.workers.pools import ExecutorPool, check_remote_code, check_run, check_version
from airflow_provider_hfreg.workers.settings import parse_settings, read_settings

KEY = "0123456789abcdef"
CODE, OTHER_CODE = (f"sha256:{letter * 64}" for letter in "ab")
PLAIN = {
    "broker_url": "redis://:password@redis:6379/5",
    "message_keys": [KEY],
    "pools": {"cpu": {}, "gpu-a10": {"device": "cuda", "cuda_version": "12.4", "memory_gib": 22}},
    "storages": [{"url": "s3://lake", "secret_access_key": "hidden", "access_key_id": "id"}, {"url": "s3://lake/own"}],
}


def with_needs(cuda_version, weights_gib=1.0, *, dtype="float32", code=None):
    return SimpleNamespace(
        reference="finbert/v1",
        manifest=SimpleNamespace(options={"cuda_version": cuda_version}, code_digest=code),
        spec=SimpleNamespace(weights_size_bytes=weights_gib * 2**30, dtype=dtype, remote_code=code is not None),
    )


def test_a_pool_names_its_queue_and_its_airflow_pool():
    assert replace(ExecutorPool("gpu-a10"), name="gpu-a10") == ExecutorPool(
        "gpu-a10", queue="hfreg.gpu-a10", airflow_pool="hfreg_gpu-a10"
    )


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"device": "gpu"}, r"device of the executor pool 'p' is 'gpu'; it must be 'cpu' or 'cuda'"),
        ({"slots": 0}, "slots .* is 0; it must be a whole number from 1 on"),
        ({"cuda_version": "12.4"}, "has device 'cpu' and cuda_version '12.4'"),
        ({"device": "cuda", "cuda_version": "twelve"}, "cuda_version .* is 'twelve'"),
        ({"memory_gib": -1}, "memory_gib .* is -1"),
        ({"threads": 0}, "threads .* is 0; it must be a whole number from 1 on"),
        ({"trust_remote_code": "true"}, "trust_remote_code .* is 'true'; it must be true, false, or a list of code"),
        ({"trust_remote_code": CODE}, "it must be true, false, or a list of code digests"),
        ({"trust_remote_code": ["finbert/v1"]}, r"is \['finbert/v1'\]; it must be true, false, or a list of code"),
        ({"quue": "x"}, "has an option 'quue'; there are queue, device"),
    ],
)
def test_a_pool_that_cannot_be_is_refused_with_its_option(options, told):
    with pytest.raises(SettingsError, match=told):
        ExecutorPool.from_json("p", options)


@pytest.mark.parametrize(
    ("pool", "version", "told"),
    [
        ({"device": "cuda"}, with_needs(None), "cuda_version=None: it never runs on a GPU"),
        ({"device": "cuda", "cuda_version": "12.4"}, with_needs("12.10"), r"needs CUDA 12.10, .* offers 12.4"),
        ({"memory_gib": 2}, with_needs("12.4", 2.5), r"2.50 GiB of weights, .* has 2 GiB"),
    ],
)
def test_a_version_that_cannot_run_on_a_pool_is_refused_with_both_numbers(pool, version, told):
    with pytest.raises(PoolMismatchError, match=told):
        check_version(ExecutorPool("p", **pool), version)


@pytest.mark.parametrize(
    ("pool", "version"),
    [
        ({}, with_needs(None)),
        ({}, with_needs("13.0")),
        ({"device": "cuda"}, with_needs("12.4")),
        ({"device": "cuda", "cuda_version": "12.4"}, with_needs("12.4")),
        ({"device": "cuda", "cuda_version": "13.0", "memory_gib": 3}, with_needs("12.8", 2.5)),
    ],
)
def test_any_other_version_may(pool, version):
    check_version(ExecutorPool("p", **pool), version)


@pytest.mark.parametrize(
    ("memory_gib", "dtype", "precision"),
    [(1, "float32", None), (1, "float32", "float32"), (2, "bfloat16", "float32"), (0.5, "float32", "bfloat16")],
)
def test_the_weights_are_those_of_the_runs_precision(memory_gib, dtype, precision):
    version = with_needs(None, 1.0, dtype=dtype)
    check_version(ExecutorPool("p", memory_gib=memory_gib), version, precision=precision)
    with pytest.raises(PoolMismatchError, match=f"{memory_gib:.2f} GiB of weights"):
        check_version(ExecutorPool("p", memory_gib=memory_gib - 0.01), version, precision=precision)


def test_threads_are_the_pools_and_not_a_runs():
    request = BatchRequest(input="file:///in.csv", output="file:///out", threads=2)
    pool = ExecutorPool("p", threads=4)
    with pytest.raises(PoolMismatchError, match=r"threads is 2, and .* pool 'p', .* set 'threads' in the pool's"):
        check_run(pool, with_needs(None), request)
    check_run(pool, with_needs(None), replace(request, threads=None))


@pytest.mark.parametrize("trusted", [True, [CODE], [OTHER_CODE, CODE]])
def test_code_that_the_pool_trusts_runs_there(trusted):
    check_remote_code(ExecutorPool.from_json("p", {"trust_remote_code": trusted}), with_needs(None, code=CODE))


@pytest.mark.parametrize("trusted", [False, [], [OTHER_CODE]])
def test_any_other_code_does_not_and_it_is_told_what_to_set_and_where(trusted):
    pool = ExecutorPool.from_json("p", {"trust_remote_code": trusted})
    with pytest.raises(PoolMismatchError) as refused:
        check_remote_code(pool, with_needs(None, code=CODE))
    for said in ("finbert/v1", "'p'", "trust_remote_code", f'["{CODE}"]', "[hfreg] executor_pools", "settings file"):
        assert said in str(refused.value)
    check_remote_code(pool, with_needs(None))  # a version without code needs no trust


def test_the_longest_storage_that_holds_a_place_reaches_it():
    settings = parse_settings(PLAIN)
    assert settings.access("s3://lake/own/out").url == "s3://lake/own"
    assert settings.access("s3://lake/owned").s3.secret_access_key == "hidden"
    for outside in ("s3://lake-of-others/x", "file:///etc", "s3://LAKE", "no url"):
        with pytest.raises(MessageRefusedError):
            settings.access(outside)


def test_no_secret_is_shown():
    shown = repr(parse_settings(PLAIN))
    assert "password" not in shown
    assert KEY not in shown
    assert "hidden" not in shown


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"broker_url": None}, "broker_url must be a URL"),
        ({"message_keys": ["short"]}, "message_keys must be a list of texts of at least 16 characters"),
        ({"message_keys": KEY}, "message_keys must be a list"),
        ({"pools": ["cpu"]}, "pools must be a table"),
        ({"storages": [{"endpoint_url": "http://x"}]}, "a table with a 'url'"),
        ({"storages": [{"url": "s3://lake", "acess_key_id": "x"}]}, "has an option 'acess_key_id'"),
        ({"storages": [{"url": "lake"}]}, "One of 'storages'"),
        ({"brokr": 1}, "no setting 'brokr'"),
    ],
)
def test_settings_that_cannot_be_are_refused_by_name(changes, told):
    with pytest.raises(SettingsError, match=told):
        parse_settings(PLAIN | changes)


def test_an_unknown_pool_is_told_with_those_there_are():
    with pytest.raises(SettingsError, match="no executor pool 'gpu' in the settings; there is 'cpu', 'gpu-a10'"):
        parse_settings(PLAIN).pool("gpu")


def test_a_file_takes_its_keys_from_the_environment(tmp_path):
    path = tmp_path / "settings.toml"
    path.write_text('broker_url = "redis://redis/5"\n[pools.cpu]\nslots = 2\n')
    settings = read_settings(path, {"HFREG_MESSAGE_KEYS": f"{KEY},{KEY}2"})
    assert settings.message_keys == (KEY, f"{KEY}2")
    assert settings.pool("cpu").slots == 2
    with pytest.raises(SettingsError, match="message_keys must be"):
        read_settings(path, {})


def test_the_command_prints_the_settings_as_understood_and_no_secret(tmp_path, capsys):
    path = tmp_path / "settings.toml"
    path.write_text(
        f'broker_url = "redis://:password@redis/5"\nmessage_keys = ["{KEY}"]\n[pools.gpu]\ndevice = "cuda"\n'
        '[[storages]]\nurl = "s3://lake"\naccess_key_id = "id"\nsecret_access_key = "hidden"\n'
    )
    assert main(["--settings", str(path), "--show"]) == 0
    shown = capsys.readouterr().out
    assert '"queue": "hfreg.gpu"' in shown
    assert "s3://lake" in shown
    assert not [secret for secret in ("password", KEY, "hidden") if secret in shown]


def test_the_command_ends_with_one_sentence_where_the_settings_cannot_be(tmp_path, capsys):
    assert main(["--settings", str(tmp_path / "absent.toml"), "--pool", "cpu"]) == 2
    assert "absent.toml cannot be read (No such file or directory)" in capsys.readouterr().err
    path = tmp_path / "settings.toml"
    path.write_text("broker_url = ")
    assert main(["--settings", str(path)]) == 2
    assert "are no TOML" in capsys.readouterr().err
