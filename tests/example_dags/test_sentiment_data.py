"""The example's table: out of the archive, labelled, split."""

from __future__ import annotations

import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sentiment_data import ARCHIVE, FILES, SCHEMA, download_release, in_train, read_release


def archive(files):
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as tar:
        for name, body in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(body)
            tar.addfile(member, io.BytesIO(body))
    return content.getvalue()


def test_the_four_files_of_the_nested_archive_become_one_table(tmp_path):
    line = "1_1\t-0.5\ttoo tepid, “naïve” & 10% off\r\n"
    inner = archive(dict.fromkeys(FILES.values(), line.encode() + b"1_2\t2.25\tLMAO, AMAZING!\r\n"))
    release = tmp_path / "release.tar.gz"
    release.write_bytes(archive({ARCHIVE: inner}))

    table = read_release(release)

    assert table.schema == SCHEMA
    assert table.num_rows == 2 * len(FILES)
    first, second = table.slice(0, 2).to_pylist()
    assert first["id"] == "movies/1_1"
    assert first["text"] == "too tepid, “naïve” & 10% off"
    assert (first["rating"], first["label"]) == (-0.5, "NEGATIVE")
    assert (second["rating"], second["label"]) == (2.25, "POSITIVE")
    assert len(set(table["id"].to_pylist())) == table.num_rows


@given(st.lists(st.text(max_size=2), max_size=50), st.integers(0, 60))
def test_equal_texts_are_on_one_side_of_the_split(texts, train_rows):
    chosen = in_train(tuple(texts), train_rows)
    assert chosen.sum() <= train_rows
    assert len({(text, bool(side)) for text, side in zip(texts, chosen, strict=True)}) == len(set(texts))


def test_a_download_that_is_not_the_release_is_refused_by_its_digest(tmp_path):
    (tmp_path / "vaderSentiment-3.3.2.tar.gz").write_bytes(b"something else")
    with pytest.raises(RuntimeError, match="SHA-256"):
        download_release(tmp_path)


@pytest.mark.slow
def test_the_real_release_has_23703_rows_of_which_17500_are_to_learn_from(tmp_path):
    table = read_release(download_release(tmp_path))
    assert table.num_rows == 23_703
    assert table["split"].to_pylist().count("train") == 17_500
