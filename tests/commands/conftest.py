"""The command line of a registry as a person has it: a process, its two streams and its exit status."""

import contextlib
import io
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from unittest import mock

import pytest

from airflow_provider_hfreg.__main__ import main
from airflow_provider_hfreg.registry import Registry

_PATIENCE_S = 800  # a process that loads torch takes seconds alone, and minutes on a machine that many share


@dataclass(frozen=True)
class Ended:
    """What a process left."""

    status: int
    out: str
    err: str

    @property
    def plain(self):
        return json.loads(self.out)


@dataclass(frozen=True)
class CommandLine:
    """Runs ``python -m airflow_provider_hfreg`` in a folder."""

    url: str
    folder: object
    environment: dict

    def __call__(self, *arguments, **environment):
        command = [sys.executable, "-m", "airflow_provider_hfreg", *map(str, arguments)]
        ended = subprocess.run(
            command,
            cwd=self.folder,
            env={**os.environ, **self.environment, **environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=_PATIENCE_S,
        )
        return Ended(ended.returncode, ended.stdout, ended.stderr)

    def here(self, *arguments, **environment):
        """Run it in this process: the same but for the seconds that a process takes to start."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.ExitStack() as around:
            around.enter_context(mock.patch.dict(os.environ, {**self.environment, **environment}))
            around.enter_context(contextlib.chdir(self.folder))
            around.enter_context(contextlib.redirect_stdout(out))
            around.enter_context(contextlib.redirect_stderr(err))
            try:
                status = main(list(map(str, arguments)))
            except SystemExit as ended:
                status = ended.code
        return Ended(status, out.getvalue(), err.getvalue())

    def registry(self, **changes):
        return Registry(self.url, cache_folder=self.folder / "cache", **changes)


@pytest.fixture
def hfreg(store_url, request, tmp_path):
    """The command line, with an empty registry on a folder and on S3 in turn."""
    environment = {"HFREG_REGISTRY": store_url, "HFREG_CACHE": str(tmp_path / "cache")}
    if store_url.startswith("s3"):
        settings = request.getfixturevalue("s3_settings")
        environment |= {
            "AWS_ENDPOINT_URL": settings.endpoint_url,
            "AWS_ACCESS_KEY_ID": settings.access_key_id,
            "AWS_SECRET_ACCESS_KEY": settings.secret_access_key,
        }
    return CommandLine(store_url, tmp_path, environment)


@pytest.fixture
def command_line(tmp_path):
    """A function of a registry's URL and variables of the environment that gives the command line there."""
    return lambda url, environment: CommandLine(url, tmp_path, environment)


@pytest.fixture
def on_folder(file_url, tmp_path):
    """The command line with an empty registry on a folder, for what no store makes a difference to."""
    return CommandLine(file_url, tmp_path, {"HFREG_REGISTRY": file_url, "HFREG_CACHE": str(tmp_path / "cache")})


@pytest.fixture(scope="session")
def model(made_once):
    """A folder with a tiny text classifier."""
    from airflow_provider_hfreg.testing.models import text_classifier

    return made_once("commands model", text_classifier)


@pytest.fixture
def finbert(on_folder, model):
    """The command line with ``finbert/v1`` and ``finbert/v2`` in its registry, logged without a process."""
    registry = on_folder.registry()
    for number in (1, 2):
        registry.log_folder(
            model,
            model_name="finbert",
            version_name=f"v{number}",
            task="text-classification",
            pipeline_kwargs={"top_k": number},
            metrics={"accuracy": number / 2.5},
            tags={"team": "risk"},
        )
    return on_folder
