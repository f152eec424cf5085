"""What a version is in the bucket: keys, documents, blobs, pointers, publishing, the host's cache. No torch."""
