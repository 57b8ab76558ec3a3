import threading

import pytest
import torch

from diptych.data.ahead import Calls, ahead


class Rows:
    """Counts, and remembers who asked."""

    def __init__(self):
        self.asked = []

    def batch(self, position, size):
        self.asked.append((position, size, threading.current_thread().name.startswith("ahead")))
        if position >= 10_000:
            raise ValueError("no such rows")
        return {"row": torch.arange(position, position + size)}


@pytest.mark.parametrize(("accumulate", "world"), [(1, 1), (4, 1), (4, 2), (6, 3)])
def test_positions_are_those_the_training_loop_asks_for(accumulate, world):
    batch = 12 * accumulate
    for rank in range(world):
        calls = Calls(batch, accumulate, rank, world)
        size, share = 12, accumulate // world
        asked = [step * batch + index * size for step in range(5) for index in range(rank * share, (rank + 1) * share)]
        assert [calls.after(place) for place in asked[:-1]] == asked[1:]


def test_batches_are_the_datas_own_and_made_once():
    data = Rows()
    with ahead(data, Calls(8, 2), threads=3) as running:
        for position in range(0, 200, 4):
            assert running.batch(position, 4)["row"].tolist() == list(range(position, position + 4))
    made = [position for position, _, _ in data.asked]
    assert len(made) == len(set(made)) and 50 <= len(made) <= 53 and all(there for _, _, there in data.asked)


def test_a_jump_is_followed_and_an_error_is_raised_where_it_is_asked_for():
    data = Rows()
    with ahead(data, Calls(4), threads=2) as running:
        assert running.batch(0, 4)["row"][0] == 0
        assert running.batch(900, 4)["row"][0] == 900
        assert running.batch(9996, 4)["row"][0] == 9996  # what fails is under way already
        with pytest.raises(ValueError, match="no such rows"):
            running.batch(10_000, 4)
        assert running.batch(8, 4)["row"][0] == 8


def test_uneven_cuts_are_refused():
    for calls in (Calls(10, 4), Calls(8, 4, 0, 3)):
        with pytest.raises(ValueError, match="the next must divide each"), ahead(Rows(), calls):
            pass
