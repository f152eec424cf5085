"""
Aims: a version comes to a host at 1.3 times the speed of boto3's own download, verified, and at 0.9 of the speed of
our own without verifying; also where each connection has a bound, as those to S3 have. A second version with the same
weights moves less than 64 KB. Of 200 loggers of one version one wins, within 2 s, whether they are threads of one
process or of 20. The names of 1,000 versions cost at most two requests. A warm ``version.load()`` has 0.9 of the speed
of ``transformers.pipeline`` on the same folder, and reading the weights of a version's files 0.9 of reading them from a
folder. Each is told beside its figure as met or missed.

The speed of a loaded model against the raw safetensors is told, too, as a figure and no aim: a model that runs is more
than its weights. To build the network's modules and put each tensor into its place takes transformers a few
milliseconds a layer (the way "the network alone" shows it), and no registry can load faster than that; of ours are
looking at the files and at the free memory, which take as long whatever the model's size.

    python benchmarks/transfers.py [--gib 1] [--repeat 3] [--aws PATH]

A real S3 server (SeaweedFS) on this machine, so the server's share of the processors is in every figure. ``aws s3 cp``
is compared where an ``aws`` is found (``uv tool install awscli``: it needs another botocore than Airflow's provider).
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import math
import multiprocessing
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import boto3
from measuring import Timed, interleaved, tell

from airflow_provider_hfreg.errors import VersionExistsError
from airflow_provider_hfreg.registry import Registry
from airflow_provider_hfreg.storage.s3 import S3Settings, S3Store
from airflow_provider_hfreg.testing.proxy import proxied
from airflow_provider_hfreg.testing.servers import S3Server, seaweedfs
from airflow_provider_hfreg.versions.layout import Layout
from airflow_provider_hfreg.versions.manifest import Manifest

_TASK = "text-classification"
_LOGGERS = 200
_PROCESSES = 20
_STARTING_S, _WAKING_S = 300.0, 5.0
_VERSIONS = 1000
_CONNECTION_BYTES_PER_S = 8e6
_LEAST_SPEEDS = {"speed_of_boto3": 1.3, "speed_of_ours": 0.9}


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


def aim(figure: str, found: float, *, least: float = -math.inf, most: float = math.inf) -> str:
    """
    Judge a figure.

    >>> aim("speed of boto3", 1.1, least=1.3), aim("requests", 2, most=2)
    ('speed of boto3 1.1, aim at least 1.3: missed', 'requests 2, aim at most 2: met')
    """
    wanted = [f"at least {least}"] * (least > -math.inf) + [f"at most {most}"] * (most < math.inf)
    return f"{figure} {found}, aim {' and '.join(wanted)}: {'met' if least <= found <= most else 'missed'}"


# --- moving one file


def _moving(folder: Path, server: S3Server, options: argparse.Namespace) -> None:
    source, target = folder / "source", folder / "target"
    digest = _write_random(source, int(options.gib * (1 << 30)))
    store = S3Store("s3://bench/moved", server.settings())
    client = _boto3_client(server, server.endpoint_url)
    aws = _aws(server, options.aws)
    up: dict[str, Callable[[], Any]] = {
        "ours, verified": lambda: store.upload("file", source, digest=digest),
        "ours": lambda: store.upload("file", source),
        "boto3": lambda: client.upload_file(str(source), "bench", "moved/file"),
    }
    down = _downloads(store, client, target, digest, source.stat().st_size)
    if aws is not None:
        up["aws s3 cp"] = lambda: aws(str(source), "s3://bench/moved/file")
        down["aws s3 cp"] = lambda: aws("s3://bench/moved/file", str(target))
    _tell_moving("upload of a large file", up, options, least={})
    _tell_moving("download of a large file", down, options, least=_LEAST_SPEEDS)
    with proxied(server, connection_bytes_per_s=_CONNECTION_BYTES_PER_S) as proxy:
        bounded = _downloads(
            S3Store(store.url, proxy.settings()),
            _boto3_client(server, proxy.endpoint_url),
            *(target, digest, source.stat().st_size),
        )
        name = f"download of a large file, each connection bounded at {_CONNECTION_BYTES_PER_S / 1e6:.0f} MB/s"
        _tell_moving(name, bounded, options, least=_LEAST_SPEEDS)
    source.unlink()
    target.unlink()


def _downloads(store: S3Store, client: Any, target: Path, digest: str, size_bytes: int) -> dict[str, Callable[[], Any]]:
    """Return the ways to download the file; ours is told its size, as a manifest tells it."""
    return {
        "ours, verified": lambda: store.download("file", target, digest=digest, size_bytes=size_bytes),
        "ours": lambda: store.download("file", target, size_bytes=size_bytes),
        "boto3": lambda: client.download_file("bench", "moved/file", str(target)),
    }


def _boto3_client(server: S3Server, endpoint_url: str) -> Any:
    return boto3.Session(server.access_key, server.secret_key).client(
        "s3", endpoint_url=endpoint_url, region_name="us-east-1"
    )


def _tell_moving(
    name: str,
    ways: dict[str, Callable[[], Any]],
    options: argparse.Namespace,
    *,
    least: Mapping[str, float],
) -> None:
    timed = interleaved(ways, repeat=options.repeat)
    ours = timed["ours, verified"].wall_s
    ratios: dict[str, Any] = {
        f"speed_of_{way.replace(' ', '_')}": round(each.wall_s / ours, 2) for way, each in timed.items()
    }
    del ratios["speed_of_ours,_verified"]
    if least:
        ratios["aims"] = [aim(ratio, ratios[ratio], least=bound) for ratio, bound in least.items()]
    claim = "verified, against boto3 and aws s3 cp with their defaults; the speeds are ours over theirs"
    settings = {"gib": options.gib, "repeat": options.repeat}
    tell(name, claim, timed, ours="ours, verified", settings=settings, **ratios)


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
    cpu_s, wall_s = time.process_time() - cpu_s, time.perf_counter() - wall_s
    timed = {name: Timed(figures.pop("cpu_s", cpu_s), figures.pop("wall_s", wall_s))}
    tell(name, claim, timed, ours=name, settings={}, **figures)


def _second_version(folder: Path, server: S3Server) -> None:
    from airflow_provider_hfreg.testing.models import text_classifier

    model = text_classifier(folder / "model")
    with proxied(server) as proxy:
        registry = Registry("s3://bench/second", s3=proxy.settings(), cache_folder=folder / "cache")
        registry.log_folder(model, model_name="bench", version_name="v1", task=_TASK)
        proxy.forget()
        with _once("a second version with the same weights", "moves less than 64 KB") as figures:
            kwargs = {"top_k": 2}
            registry.log_folder(model, model_name="bench", version_name="v2", task=_TASK, pipeline_kwargs=kwargs)
            moved = proxy.sent_bytes + proxy.received_bytes
            figures |= {"requests": len(proxy.requests), "aims": [aim("bytes of bodies", moved, most=64_000)]}


def _loggers(folder: Path, server: S3Server) -> None:
    """
    200 loggers, each with a registry of its own, log other content under one name, all at once.

    As threads of one process they share its interpreter's lock, and most of what is measured is how they wait for it.
    As ten threads in each of 20 processes they share the machine's cores and nothing else.
    """
    crowd = _Crowd(server.settings(), folder)
    crowd.log("v0", 0)  # brings the blobs
    for processes, where in ((1, ""), (_PROCESSES, f", in {_PROCESSES} processes")):
        with _once(f"{_LOGGERS} loggers of one version{where}", "one wins, the others are told so") as figures:
            shares = crowd.log_at_once(f"of-{processes}", processes)
            began = min(share.began_s for share in shares)
            won = [end for share in shares for end in share.won_s]
            aims = [aim("winners", len(won), least=1, most=1)]
            aims += [aim("seconds to win", round(end - began, 2), most=2) for end in won]
            figures |= {"cpu_s": sum(share.cpu_s for share in shares), "aims": aims}
            figures["wall_s"] = max(share.ended_s for share in shares) - began


@dataclass(frozen=True)
class _Share:
    """What the loggers of one process came to, in seconds of the machine's clock, which its processes share."""

    began_s: float
    ended_s: float
    won_s: list[float]
    cpu_s: float


@dataclass(frozen=True)
class _Crowd:
    """Loggers of one registry, which may be in other processes."""

    settings: S3Settings
    folder: Path

    def registry(self) -> Registry:
        return Registry("s3://bench/crowd", s3=self.settings, cache_folder=self.folder / "cache")

    def log(self, version_name: str, number: int, registry: Registry | None = None) -> None:
        described = {"model_name": "bench", "version_name": version_name, "pipeline_kwargs": {"top_k": number + 1}}
        (registry or self.registry()).log_folder(self.folder / "model", task=_TASK, **described)

    def log_at_once(self, version_name: str, processes: int) -> list[_Share]:
        """Let as many loggers begin when all of them are ready, in processes that were started before."""
        spawning = multiprocessing.get_context("spawn")
        meeting = (spawning.Barrier(_LOGGERS), spawning.Value("d"))
        with ProcessPoolExecutor(processes, spawning, _take_part, meeting) as pool:
            shares = [range(first, _LOGGERS, processes) for first in range(processes)]
            return list(pool.map(self.share, [version_name] * processes, shares))

    def share(self, version_name: str, numbers: range) -> _Share:
        """Be some of the loggers, each in a thread."""
        began, won = [], []

        def log(number: int) -> None:
            registry = self.registry()
            registry.get_model("bench").version_names()  # its client is made
            began.append((_begin(), time.process_time()))
            try:
                self.log(version_name, number, registry)
            except VersionExistsError:
                return
            won.append(time.monotonic())

        with ThreadPoolExecutor(len(numbers)) as threads:
            list(threads.map(log, numbers))
        began_s, cpu_s = min(began)
        return _Share(began_s, time.monotonic(), won, time.process_time() - cpu_s)


_meeting: list[Any] = []


def _take_part(*meeting: Any) -> None:
    """Tell a process of loggers where they meet: it can be told when it is made, and not later."""
    logging.disable(logging.WARNING)
    _meeting.extend(meeting)


def _begin() -> float:
    """Wait until all loggers are ready, and for a moment after it: a barrier wakes 200 one by one, for a second."""
    together, moment = _meeting
    with moment.get_lock():
        moment.value = time.monotonic() + _WAKING_S
    together.wait(_STARTING_S)
    time.sleep(max(0.0, moment.value - time.monotonic()))
    return float(moment.value)


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
            names = len(model.version_names())
            figures |= {"names": names, "aims": [aim("requests", len(proxy.requests), most=2)]}


# --- loading


def _warm_load(folder: Path, server: S3Server, options: argparse.Namespace) -> None:
    """
    A version that this host has, beside others' load of its folder: one that was found, and found by a registry that is
    made anew, with its client, as a new process makes it.

    Each reads all weights at the end: else the one that maps them has done nothing yet.
    """
    import transformers
    from safetensors.torch import load_file

    from airflow_provider_hfreg.testing.models import text_classifier

    layers = max(1, round(options.gib * 21))  # of 50 MB
    size = {"hidden_size": 1024, "intermediate_size": 4096, "num_attention_heads": 16, "num_hidden_layers": layers}
    model = text_classifier(folder / "large", **size)

    def registry() -> Registry:
        return Registry("s3://bench/warm", s3=server.settings(), cache_folder=folder / "cache")

    def read(tensors: Iterable[Any]) -> float:
        return sum(float(tensor.detach().sum()) for tensor in tensors)

    def load(pipe: Any) -> float:
        return read(pipe.model.parameters())

    def weights_of_version() -> float:
        with version.hold_folder() as held:
            return read(load_file(held / "model.safetensors").values())

    network = transformers.AutoModelForSequenceClassification
    version = registry().log_folder(model, model_name="warm", version_name="v1", task=_TASK)
    with version.hold_folder() as raw:
        ways: dict[str, Callable[[], Any]] = {
            "version.load()": lambda: load(version.load(device="cpu")),
            "found and loaded": lambda: load(registry().get_model("warm").version("v1").load(device="cpu")),
            "transformers.pipeline": lambda: load(transformers.pipeline(_TASK, model=str(raw), device="cpu")),
            "transformers, the network alone": lambda: read(network.from_pretrained(raw).parameters()),
            "the version's files, weights alone": weights_of_version,
            "safetensors, weights alone": lambda: read(load_file(raw / "model.safetensors").values()),
        }
        timed = interleaved(ways, repeat=options.repeat)
    ratios = {way: round(each.wall_s / timed["version.load()"].wall_s, 2) for way, each in timed.items()}
    alone, found = timed["safetensors, weights alone"].wall_s, timed["the version's files, weights alone"].wall_s
    files = round(alone / found, 2)
    more = {
        "aims": [
            aim("speed of transformers.pipeline", ratios["transformers.pipeline"], least=0.9),
            aim("speed of raw safetensors, of the version's files", files, least=0.9),
        ],
        "speed_of_safetensors,_weights_alone": ratios["safetensors, weights alone"],
    }
    settings = {"gib": options.gib, "repeat": options.repeat}
    claim = "a version that this host has, beside transformers on the same folder"
    tell("a warm load", claim, timed, ours="version.load()", settings=settings, **more)


if __name__ == "__main__":
    main()
