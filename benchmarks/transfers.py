"""
Claims: a version comes to a host at 1.3 times the speed of boto3's own download, verified, and at 0.9 of the speed of
our own without verifying. A second version with the same weights moves less than 64 KB. Of 200 loggers of one version
one wins. The names of 1,000 versions cost at most two requests. A warm load takes hardly longer than reading the
weights.

    python benchmarks/transfers.py [--gib 1] [--repeat 3] [--aws PATH]

A real S3 server (SeaweedFS) on this machine, so the server's share of the processors is in every figure. ``aws s3 cp``
is compared where an ``aws`` is found (``uv tool install awscli``: it needs another botocore than Airflow's provider).
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3
from measuring import Timed, interleaved, tell

from airflow_provider_hfreg.errors import VersionExistsError
from airflow_provider_hfreg.registry import Registry
from airflow_provider_hfreg.storage.s3 import S3Store
from airflow_provider_hfreg.testing.models import text_classifier
from airflow_provider_hfreg.testing.proxy import proxied
from airflow_provider_hfreg.testing.servers import S3Server, seaweedfs
from airflow_provider_hfreg.versions.cache import HostCache
from airflow_provider_hfreg.versions.layout import Layout
from airflow_provider_hfreg.versions.manifest import Manifest

_TASK = "text-classification"
_LOGGERS = 200
_VERSIONS = 1000


def main() -> None:
    """Measure and tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gib", type=float, default=0.25, help="of the file that is moved")
    parser.add_argument("--repeat", type=int, default=3, help="rounds; each runs every way once")
    parser.add_argument("--aws", default=shutil.which("aws"), help="the aws command line")
    parser.add_argument("--folder", type=Path, help="where to work; default: a temporary one")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    with ExitStack() as running:
        folder = Path(running.enter_context(tempfile.TemporaryDirectory(prefix="hfreg-bench-", dir=options.folder)))
        server = running.enter_context(seaweedfs(folder / "seaweedfs"))
        server.create_bucket("bench")
        _moving(folder, server, options)
        _second_version(folder, server)
        _loggers(folder, server)
        _listing(server)
        _warm_load(folder, server, options)


# --- moving one file


def _moving(folder: Path, server: S3Server, options: argparse.Namespace) -> None:
    source, target = folder / "source", folder / "target"
    digest = _write_random(source, int(options.gib * (1 << 30)))
    store = S3Store("s3://bench/moved", server.settings())
    client = boto3.Session(server.access_key, server.secret_key).client(
        "s3", endpoint_url=server.endpoint_url, region_name="us-east-1"
    )
    aws = _aws(server, options.aws)
    up: dict[str, Callable[[], Any]] = {
        "ours, verified": lambda: store.upload("file", source, digest=digest),
        "ours": lambda: store.upload("file", source),
        "boto3": lambda: client.upload_file(str(source), "bench", "moved/file"),
    }
    down: dict[str, Callable[[], Any]] = {
        "ours, verified": lambda: store.download("file", target, digest=digest),
        "ours": lambda: store.download("file", target),
        "boto3": lambda: client.download_file("bench", "moved/file", str(target)),
    }
    if aws is not None:
        up["aws s3 cp"] = lambda: aws(str(source), "s3://bench/moved/file")
        down["aws s3 cp"] = lambda: aws("s3://bench/moved/file", str(target))
    settings = {"gib": options.gib, "repeat": options.repeat}
    for name, ways in (("upload", up), ("download", down)):
        timed = interleaved(ways, repeat=options.repeat)
        ours = timed["ours, verified"].wall_s
        ratios = {f"speed_of_{way.replace(' ', '_')}": round(each.wall_s / ours, 2) for way, each in timed.items()}
        del ratios["speed_of_ours,_verified"]
        claim = "verified, against boto3 and aws s3 cp with their defaults; the speeds are ours over theirs"
        tell(f"{name} of a large file", claim, timed, ours="ours, verified", settings=settings, **ratios)
    source.unlink()
    target.unlink()


def _write_random(path: Path, size_bytes: int) -> str:
    digest = hashlib.sha256()
    with path.open("wb") as stream:
        for start in range(0, size_bytes, 1 << 20):
            block = os.urandom(min(1 << 20, size_bytes - start))
            stream.write(block)
            digest.update(block)
    return f"sha256:{digest.hexdigest()}"


def _aws(server: S3Server, command: str | None) -> Callable[[str, str], None] | None:
    if command is None:
        print("There is no aws command line here: it is left out. Install one with: uv tool install awscli")
        return None
    keys = {"AWS_ACCESS_KEY_ID": server.access_key, "AWS_SECRET_ACCESS_KEY": server.secret_key}
    environment = {**os.environ, **keys, "AWS_DEFAULT_REGION": "us-east-1", "PYTHONPATH": ""}

    def copy(source: str, target: str) -> None:
        arguments = [command, "--endpoint-url", server.endpoint_url, "s3", "cp", "--only-show-errors", source, target]
        subprocess.run(arguments, check=True, env=environment)

    return copy


# --- logging, listing


@contextmanager
def _once(name: str, claim: str) -> Iterator[dict[str, Any]]:
    """Time what is done inside, and tell it with the figures that are put into the mapping."""
    figures: dict[str, Any] = {}
    cpu_s, wall_s = time.process_time(), time.perf_counter()
    yield figures
    timed = {name: Timed(time.process_time() - cpu_s, figures.pop("wall_s", time.perf_counter() - wall_s))}
    tell(name, claim, timed, ours=name, settings={}, **figures)


def _second_version(folder: Path, server: S3Server) -> None:
    model = text_classifier(folder / "model")
    with proxied(server) as proxy:
        registry = Registry("s3://bench/second", s3=proxy.settings(), cache_folder=folder / "cache")
        registry.log_folder(model, model_name="bench", version_name="v1", task=_TASK)
        proxy.forget()
        with _once("a second version with the same weights", "moves less than 64 KB") as figures:
            kwargs = {"top_k": 2}
            registry.log_folder(model, model_name="bench", version_name="v2", task=_TASK, pipeline_kwargs=kwargs)
            figures |= {"requests": len(proxy.requests), "bytes_of_bodies": proxy.sent_bytes + proxy.received_bytes}


def _loggers(folder: Path, server: S3Server) -> None:
    """200 threads, each with a registry of its own, log other content under one name, all at once."""
    model = folder / "model"
    registry = Registry("s3://bench/crowd", s3=server.settings(), cache_folder=folder / "cache")
    registry.log_folder(model, model_name="bench", version_name="v0", task=_TASK)  # proves the store, brings the blobs
    together, began = threading.Barrier(_LOGGERS), []

    def log(number: int) -> float | None:
        together.wait()
        began.append(time.perf_counter())
        try:
            kwargs = {"top_k": number + 1}
            registry.log_folder(model, model_name="bench", version_name="v1", task=_TASK, pipeline_kwargs=kwargs)
        except VersionExistsError:
            return None
        return time.perf_counter()

    with _once(f"{_LOGGERS} loggers of one version", "one wins, the others are told so") as figures:
        with ThreadPoolExecutor(_LOGGERS) as threads:
            ended = list(threads.map(log, range(_LOGGERS)))
        won = [end for end in ended if end is not None]
        figures |= {"winners": len(won), "winner_s": round(won[0] - min(began), 2)}


def _listing(server: S3Server) -> None:
    store = S3Store("s3://bench/second", server.settings())
    manifest = Manifest.from_bytes(store.get(Layout.manifest("bench", "v1")), store.url)
    with ThreadPoolExecutor(8) as threads:
        others = [replace(manifest, version_name=f"w{number:04d}") for number in range(_VERSIONS - 2)]
        keys = [Layout.manifest("bench", other.version_name) for other in others]
        list(threads.map(store.put, keys, [other.to_bytes() for other in others]))
    with proxied(server) as proxy:
        model = Registry("s3://bench/second", s3=proxy.settings()).get_model("bench")
        proxy.forget()
        with _once(f"the names of {_VERSIONS} versions", "cost at most two requests") as figures:
            figures |= {"names": len(model.version_names()), "requests": len(proxy.requests)}


# --- loading


def _warm_load(folder: Path, server: S3Server, options: argparse.Namespace) -> None:
    """A version that this host has, through the cache and its checks, against the weights read by safetensors alone."""
    from safetensors.torch import load_file, save_file
    from torch import randn

    weights = {f"w{number}": randn(1 << 20) for number in range(int(options.gib * 256))}
    model = text_classifier(folder / "large")
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    registry = Registry("s3://bench/warm", s3=server.settings(), cache_folder=folder / "cache")
    kwargs: dict[str, Any] = {"model_name": "warm", "version_name": "v1", "task": _TASK}
    version = registry.log_folder(model, **kwargs)
    store = S3Store(registry.url, server.settings())

    def read(file: Path) -> float:
        return sum(float(tensor.sum()) for tensor in load_file(file).values())  # else nothing but a map is made

    def through_the_cache() -> None:
        with HostCache(folder / "cache").hold(store, version.manifest) as held:  # as a new process sees it
            read(held / "model.safetensors")

    with version.hold_folder() as raw:
        ways = {"through the cache": through_the_cache, "safetensors": lambda: read(raw / "model.safetensors")}
        timed = interleaved(ways, repeat=options.repeat)
    ratio = round(timed["safetensors"].wall_s / timed["through the cache"].wall_s, 2)
    settings = {"gib": options.gib, "repeat": options.repeat}
    claim = "a version through the host's cache, its locks and checks, beside its weights by safetensors alone"
    tell("a warm load", claim, timed, ours="through the cache", settings=settings, speed_of_safetensors=ratio)


if __name__ == "__main__":
    main()
