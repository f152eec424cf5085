"""A process that runs one batch run and can be killed: ``python run_once.py '{"registry": …, "version": …, …}'``."""

import json
import logging
import sys

from airflow_provider_hfreg.registry import Registry
from airflow_provider_hfreg.runs.batch import run_batch
from airflow_provider_hfreg.runs.spec import BatchRequest
from airflow_provider_hfreg.storage.settings import S3Settings


def main(told: str) -> None:
    given = json.loads(told)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    registry = Registry(given["registry"], cache_folder=given["cache"])
    report = run_batch(
        BatchRequest(**given["request"]),
        version=registry.resolve(given["version"]),
        identity=given["identity"],
        registry_url=registry.url,
        s3=S3Settings(**given["s3"]) if given["s3"] else None,
    )
    print(json.dumps(report.to_json()))


if __name__ == "__main__":
    main(sys.argv[1])
