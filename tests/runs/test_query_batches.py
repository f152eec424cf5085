"""Rows of any size, in batches of bounded memory: each row once, in order, and never many large ones at a time."""

from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_hfreg.runs.query_batches import batches_of_rows, size_of

MIB = 2**20


class Cursor:
    """Rows of given sizes, and how many of them were asked for at a time."""

    def __init__(self, sizes, *, as_mappings=False):
        self.sizes, self.place, self.asked = sizes, 0, []
        self.as_mappings = as_mappings

    def fetch(self, count):
        self.asked.append(count)
        begin, self.place = self.place, min(self.place + count, len(self.sizes))
        rows = [(number, b"x" * self.sizes[number]) for number in range(begin, self.place)]
        return [{"id": number, "content": content} for number, content in rows] if self.as_mappings else rows


@given(st.lists(st.sampled_from((0, 10, 100_000, 3 * MIB)), max_size=60), st.booleans())
def test_each_row_comes_once_and_in_order(sizes, as_mappings):
    batches = list(batches_of_rows(Cursor(sizes, as_mappings=as_mappings).fetch))
    assert [row[0] for batch in batches for row in batch] == list(range(len(sizes)))
    assert [len(row[1]) for batch in batches for row in batch] == sizes
    assert [bool(batch) for batch in batches] == ([True] * len(batches) if sizes else [False])


def test_a_result_ordered_by_length_never_holds_more_than_a_hundred_rows_of_a_new_size():
    cursor = Cursor([10] * 10_000 + [MIB] * 200)
    batches = list(batches_of_rows(cursor.fetch))
    assert max(cursor.asked) == 100
    after = cursor.asked[cursor.asked.index(100) :]
    assert max(after[after.index(7) :]) == 7  # a row takes a little more than a MiB
    first_large = next(place for place, batch in enumerate(batches) if len(batch[-1][1]) == MIB)
    assert sum(len(row[1]) == MIB for row in batches[first_large]) <= 100
    assert all(size_of(batch) < 16 * MIB for batch in batches[first_large + 1 :])


def test_gradual_growth_stays_within_two_batches():
    cursor = Cursor(range(0, 900_000, 1000))
    assert 8 * MIB < max(map(size_of, batches_of_rows(cursor.fetch))) < 17 * MIB


def test_large_rows_at_the_beginning_are_few():
    cursor = Cursor([5 * MIB] * 12)
    assert [len(batch) for batch in batches_of_rows(cursor.fetch)] == [10, 2]
    assert cursor.asked == [10, 1, 1, 1]


def test_small_rows_are_cut_at_twenty_thousand():
    assert [len(batch) for batch in batches_of_rows(Cursor([0] * 45_000).fetch)][:2] == [20_050, 20_000]
