"""A reader of a registry on S3, written from docs/format.md alone, with boto3 and nothing of this package."""

import hashlib
import json
import pathlib

import boto3


class Reader:
    def __init__(self, bucket, prefix, **client):
        self.s3 = boto3.client("s3", **client)
        self.bucket, self.prefix = bucket, prefix

    def read(self, key):
        return self.s3.get_object(Bucket=self.bucket, Key=f"{self.prefix}/{key}")["Body"].read()

    def document(self, key):
        found = json.loads(self.read(key))
        assert found["format_version"] == 1, f"{key} is of a newer format"
        return found

    def head(self, model):
        try:
            return self.document(f"models/{model}/head.json")
        except self.s3.exceptions.NoSuchKey:
            return {"default": None, "aliases": {}, "tombstones": {}}

    def oldest_first(self, model, deleted):
        prefix = f"{self.prefix}/models/{model}/versions/"
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
        dated = sorted((entry["LastModified"], entry["Key"]) for page in pages for entry in page.get("Contents", []))
        names = [key.removeprefix(prefix).removesuffix(".json") for _, key in dated]
        return [name for name in names if name not in deleted]

    def resolve(self, reference):
        model, _, version = reference.partition("/")
        model, _, alias = model.partition("@")
        head = self.head(model)
        if alias.upper() in ("FIRST", "LAST"):
            version = self.oldest_first(model, head["tombstones"])[-1 if alias.upper() == "LAST" else 0]
        elif alias and alias.upper() != "DEFAULT":
            version = head["aliases"][alias]
        version = version or head["default"] or self.oldest_first(model, head["tombstones"])[0]
        if version in head["tombstones"]:
            raise LookupError(f"{model}/{version} was deleted")
        return self.document(f"models/{model}/versions/{version}.json")

    def fetch(self, reference, target):
        manifest = self.resolve(reference)
        for file in manifest["files"]:
            content = self.read(file["key"])
            if "sha256:" + hashlib.sha256(content).hexdigest() != file["digest"]:
                raise ValueError(f"{file['path']} is damaged")
            path = pathlib.Path(target, file["path"])
            if not path.resolve().is_relative_to(pathlib.Path(target).resolve()):
                raise ValueError(f"{file['path']} leaves the folder")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return manifest
