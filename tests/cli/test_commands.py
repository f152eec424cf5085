"""``airflow hfreg …``, through Airflow's own command line; and a task on a pool, from its fields to its rows."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from airflow_provider_hfreg.cli import commands
from airflow_provider_hfreg.testing.workers import WorkerProcess, redis_server, workers_settings

KEY = "a key for tests that protects nothing"


@pytest.fixture
def configured(monkeypatch, tmp_path):
    """Set options of ``[hfreg]``; called with them."""
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path / "airflow"))

    def configure(**options):
        for name, value in {"message_keys": KEY, **options}.items():
            text = value if isinstance(value, str) else json.dumps(value)
            monkeypatch.setenv(f"AIRFLOW__HFREG__{name.upper()}", text)

    return configure


def airflow(*arguments):
    command = [sys.executable, "-m", "airflow", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=280)


def test_airflow_offers_the_commands_and_exports_pools_that_it_imports(configured, tmp_path):
    configured(executor_pools={"cpu": {}, "gpu-a10": {"device": "cuda", "cuda_version": "12.4", "slots": 2}})
    ended = airflow("hfreg", "pools", "export")
    assert ended.returncode == 0, ended.stderr
    pools = json.loads(ended.stdout[ended.stdout.index("{") :])
    assert {name: pool["slots"] for name, pool in pools.items()} == {"hfreg_cpu": 4, "hfreg_gpu-a10": 2}
    assert all(pool["include_deferred"] for pool in pools.values())


def test_the_commands_of_a_registry_take_its_place_from_a_connection(configured, tmp_path, monkeypatch):
    connection = {"conn_type": "hfreg", "host": str(tmp_path / "registry")}
    monkeypatch.setenv("AIRFLOW_CONN_OURS", json.dumps(connection))
    ended = airflow("hfreg", "show", "finbert/v1", "--conn-id", "ours")
    assert ended.returncode == 1
    sentence = ended.stderr.splitlines()[-1]
    assert sentence.startswith("airflow hfreg: There is no model 'finbert' in file://")
    assert "nothing was ever logged there" in sentence


def test_the_doctor_compares_the_pools_of_airflows_own_database(configured, tmp_path, monkeypatch):
    monkeypatch.setenv("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", f"sqlite:///{tmp_path}/airflow.db")
    with redis_server(tmp_path / "redis") as redis:
        configured(broker_url=redis.url, executor_pools={"cpu": {}})
        assert "The Airflow pools were not compared" in airflow("hfreg", "doctor").stdout
        assert airflow("db", "migrate").returncode == 0
        assert "There is no Airflow pool hfreg_cpu: a task that names it" in airflow("hfreg", "doctor").stdout
        (tmp_path / "pools.json").write_text(airflow("hfreg", "pools", "export").stdout)
        assert airflow("pools", "import", str(tmp_path / "pools.json")).returncode == 0
        assert "Airflow pool" not in airflow("hfreg", "doctor").stdout
        configured(broker_url=redis.url, executor_pools={"cpu": {"slots": 7}})
        ended = airflow("hfreg", "doctor")
        assert "The Airflow pool hfreg_cpu has 4 slots; configured are 7 slots." in ended.stdout
        assert ended.returncode == 1


def test_a_misspelt_pool_ends_the_command_with_one_sentence(configured):
    configured(executor_pools={"cpu": {}})
    ended = airflow("hfreg", "worker", "--pool", "gpu")
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1].startswith("airflow hfreg: There is no executor pool 'gpu'")


def test_the_doctor_names_what_is_missing_and_who_is_there(configured, tmp_path, capsys):
    with redis_server(tmp_path / "redis") as redis:
        configured(broker_url=redis.url, executor_pools={"cpu": {}, "gpu-a10": {"device": "cuda"}})
        plain = workers_settings(redis.url, [{"url": tmp_path.as_uri()}])
        with WorkerProcess(plain, tmp_path / "worker"):
            with pytest.raises(SystemExit) as ended:
                commands.doctor(None)
            assert ended.value.code == 1
            said = capsys.readouterr().out
            assert "cpu: queue hfreg.cpu, 1 worker(s)" in said
            assert "idle, 0 model(s) loaded" in said
            assert "gpu-a10 has no worker. Start one: airflow hfreg worker --pool gpu-a10" in said
            configured(broker_url=redis.url, executor_pools={"cpu": {}})
            commands.doctor(None)
            assert capsys.readouterr().out.splitlines()[-1] == "All is well."
