"""A copy to a registry of other people: two users of a real server, neither of whom reaches what is the other's."""

import itertools
import json
import os
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest

from airflow_provider_hfreg.commands.places import find_target
from airflow_provider_hfreg.commands.replies import Place
from airflow_provider_hfreg.registry import Registry
from airflow_provider_hfreg.storage.s3 import S3Store
from airflow_provider_hfreg.storage.settings import S3Settings
from airflow_provider_hfreg.testing import servers

POLICY = Path(__file__).parents[2] / "docs" / "policies" / "logger.json"
NUMBERS = itertools.count(1)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with servers.seaweedfs(tmp_path_factory.mktemp("two"), users=("trial", "production")) as server:
        yield server


@pytest.fixture
def registries(server):
    """By user: the URL of a registry in a bucket of his own, which nobody else reaches."""
    urls = {}
    for user in ("trial", "production"):
        bucket = f"{user}-{next(NUMBERS)}"
        url = server.create_bucket(bucket)
        text = POLICY.read_text("utf-8").replace("BUCKET", bucket).replace("REGISTRY", "registry")
        principal = {"AWS": [f"arn:aws:iam::000000000000:user/{user}"]}
        statements = [{**statement, "Principal": principal} for statement in json.loads(text)["Statement"]]
        policy = json.dumps({"Version": "2012-10-17", "Statement": statements})
        S3Store(url, server.settings())._bucket.client.put_bucket_policy(Bucket=bucket, Policy=policy)
        urls[user] = f"{url}/registry"
    return urls


@pytest.fixture
def hfreg(command_line, server, registries, model, tmp_path):
    """The command line of the user ``trial``, whose registry holds ``finbert/v1``; he has a profile ``production``."""
    keys = {user: server.settings_of(user) for user in registries}
    credentials = tmp_path / "credentials"
    credentials.write_text(
        "[production]\n"
        f"aws_access_key_id = {keys['production'].access_key_id}\n"
        f"aws_secret_access_key = {keys['production'].secret_access_key}\n"
    )
    environment = {
        "HFREG_REGISTRY": registries["trial"],
        "HFREG_CACHE": str(tmp_path / "cache"),
        "AWS_ENDPOINT_URL": server.endpoint_url,
        "AWS_ACCESS_KEY_ID": keys["trial"].access_key_id,
        "AWS_SECRET_ACCESS_KEY": keys["trial"].secret_access_key,
        "AWS_SHARED_CREDENTIALS_FILE": str(credentials),
        "AWS_CONFIG_FILE": str(tmp_path / "none"),
    }
    Registry(registries["trial"], s3=keys["trial"], cache_folder=tmp_path / "logger").log_folder(
        model,
        model_name="finbert",
        version_name="v1",
        task="text-classification",
        metrics={"accuracy": 0.9},
    )
    return command_line(registries["trial"], environment)


def opened(server, url, user, tmp_path):
    return Registry(url, s3=server.settings_of(user), cache_folder=tmp_path / f"of {user}")


def objects(server, url):
    return {info.key for info in S3Store(url, server.settings()).list_infos()}


def check_copied(server, registries, tmp_path):
    copy = opened(server, registries["production"], "production", tmp_path).resolve("finbert/v1")
    original = opened(server, registries["trial"], "trial", tmp_path).resolve("finbert/v1")
    assert (copy.content_digest, copy.metrics) == (original.content_digest, {"accuracy": 0.9})
    assert copy.local_folder(verify=True).is_dir()
    [origin] = copy.lineage().copied_from
    assert origin["registry"] == registries["trial"]


def test_a_copy_reaches_each_registry_by_its_own_keys(hfreg, server, registries, tmp_path):
    before = objects(server, registries["trial"])
    refused = hfreg.here("copy", "finbert/v1", "--to", registries["production"])
    assert (refused.status, refused.out) == (1, "")
    assert "do not permit this; check the connection, and the policy of s3://production" in refused.err
    assert objects(server, registries["production"]) == set()
    copied = hfreg.here("copy", "finbert/v1", "--to", registries["production"], "--to-profile", "production")
    assert copied.status == 0, copied.err
    assert copied.out.startswith("Logged finbert/v1 (sha256:")
    check_copied(server, registries, tmp_path)
    assert objects(server, registries["trial"]) == before


def test_the_server_of_the_target_may_be_told_beside_its_profile(hfreg, server, registries, tmp_path):
    told = ("copy", "finbert/v1", "--to", registries["production"], "--to-profile", "production", "--to-endpoint-url")
    nobody = hfreg.here(*told, "http://127.0.0.1:9")
    assert nobody.status == 1
    assert "http://127.0.0.1:9" in nobody.err
    assert hfreg.here(*told, server.endpoint_url).status == 0
    check_copied(server, registries, tmp_path)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--to-profile", "production"), "Which registry? Give --to s3://bucket/prefix"),
        (("--to-endpoint-url", "http://127.0.0.1:9"), "Which registry? Give --to s3://bucket/prefix"),
        (("--to", "s3://production/x", "--to-profile", "nobody"), "The config profile (nobody) could not be found"),
    ],
)
def test_a_target_that_is_not_told_whole_ends_with_a_sentence(hfreg, arguments, said):
    ended = hfreg.here("copy", "finbert/v1", *arguments)
    assert (ended.status, ended.out) == (1, "")
    assert said in ended.err
    assert "Traceback" not in ended.err


def test_airflow_reaches_each_registry_by_its_own_connection(hfreg, server, registries, tmp_path):
    environment = {**os.environ, "AIRFLOW_HOME": str(tmp_path / "airflow"), "HFREG_CACHE": str(tmp_path / "cache")}
    for user, url in registries.items():
        keys = server.settings_of(user)
        connection = {
            "conn_type": "hfreg",
            "host": url,
            "login": keys.access_key_id,
            "password": keys.secret_access_key,
            "extra": {"endpoint_url": server.endpoint_url},
        }
        environment[f"AIRFLOW_CONN_{user.upper()}"] = json.dumps(connection)

    def airflow(*arguments):
        command = [sys.executable, "-m", "airflow", "hfreg", "copy", "finbert/v1", "--conn-id", "trial", *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=280)

    refused = airflow("--to", registries["production"])
    assert refused.returncode == 1
    assert objects(server, registries["production"]) == set()
    twice = airflow("--to-conn-id", "production", "--to-profile", "production")
    assert "a connection has its own keys" in twice.stderr
    copied = airflow("--to-conn-id", "production")
    assert copied.returncode == 0, copied.stderr
    check_copied(server, registries, tmp_path)


def test_airflow_reaches_a_target_without_a_connection_by_a_profile(hfreg, server, registries, tmp_path):
    """The profile's keys take the place of the connection's; the server is the same."""
    keys = server.settings_of("trial")
    connection = {
        "conn_type": "hfreg",
        "host": registries["trial"],
        "login": keys.access_key_id,
        "password": keys.secret_access_key,
        "extra": {"endpoint_url": server.endpoint_url},
    }
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
        "AIRFLOW_HOME": str(tmp_path / "airflow"),
        "HFREG_CACHE": str(tmp_path / "cache"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "credentials"),
        "AIRFLOW_CONN_TRIAL": json.dumps(connection),
    }
    command = [sys.executable, "-m", "airflow", "hfreg", "copy", "finbert/v1", "--conn-id", "trial"]
    command += ["--to", registries["production"], "--to-profile", "production"]
    copied = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=280)
    assert copied.returncode == 0, copied.stderr
    check_copied(server, registries, tmp_path)


def test_a_profile_brings_keys_and_leaves_all_else_as_the_source_has_it():
    source = S3Settings("http://here", access_key_id="a", secret_access_key="b", session_token="c", sse="aws:kms")
    options = Namespace(to="s3://there/x", to_profile="production", to_endpoint_url=None)
    target = find_target(options, Place("s3://here/x", source, read_only=True))
    assert (target.url, target.read_only) == ("s3://there/x", False)
    assert target.s3 == S3Settings("http://here", profile_name="production", sse="aws:kms")
