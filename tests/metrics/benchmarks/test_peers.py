"""The published table, and one's own row in it."""

from __future__ import annotations

import pytest

from diptych.compare.benchmark_scores import beside_peers, overall_average, peers_panel
from diptych.compare.stats import Interval
from diptych.metrics.benchmarks.peers import FIVE, PEERS, average


def test_the_averages_printed_are_the_means_of_the_scores():
    rows = [peer for peer in PEERS if peer.average is not None]
    assert len(PEERS) == 17 and len(rows) == 15
    for peer in rows:
        numbers = [score for score in peer.scores if score is not None]
        assert len(numbers) == 5
        made = average(dict(zip(FIVE, numbers, strict=True)))
        # printed from unrounded scores: GenEval's two decimals alone allow 0.1
        assert made == pytest.approx(peer.average, abs=0.16), peer.name
    i1 = next(peer for peer in PEERS if peer.name == "i1")
    assert average(dict(zip(FIVE, [x for x in i1.scores if x is not None], strict=True))) == pytest.approx(
        83.668
    )  # (84 + 86.73 + 70.1 + 85.31 + 92.2) / 5


def test_one_row_more():
    mine = {"geneval": 0.80, "dpg": 85.0, "prism": 65.0, "cvtg": 0.70, "longtext": 0.60}
    rows = beside_peers("mine", mine)
    assert [row["model"] for row in rows[:7]] == [
        "Z-Image",
        "Qwen-Image",
        "i1",
        "HiDream-I1-Full",
        "mine",
        "FLUX.1 dev",
        "BAGEL",
    ]
    own = next(row for row in rows if row["own"])
    assert own["average"] == pytest.approx(72.0) and own["geneval"] == 0.80
    assert [row["model"] for row in rows[-2:]] == ["GPT Image 1 High", "Seedream 3.0"]
    part = beside_peers("mine", {"dpg": 85.0})
    assert next(row for row in part if row["own"])["average"] is None
    with pytest.raises(ValueError, match="geneval, prism, cvtg, longtext missing"):
        average({"dpg": 85.0})


def test_errors_of_independent_benchmarks_add_in_squares():
    held = {
        name: Interval(value, None, None, se, None, "bca", 100)
        for name, value, se in (
            ("geneval", 0.8, 0.03),
            ("dpg", 85.0, 4.0),
            ("prism", 60.0, 0.0),
            ("cvtg", 0.5, 0.0),
            ("longtext", 0.5, 0.0),
        )
    }
    made = overall_average(held)
    assert made.value == pytest.approx(65.0) and made.se == pytest.approx(1.0)  # sqrt(3^2 + 4^2) / 5
    assert made.low == pytest.approx(65 - 1.96, abs=1e-3) and made.high == pytest.approx(65 + 1.96, abs=1e-3)
    unsure = overall_average({**held, "prism": Interval(60.0, None, None, None, None, "none", 1)})
    assert unsure.value == pytest.approx(65.0) and unsure.low is None


def test_a_section_of_a_report():
    panel = peers_panel("mine & others", {"dpg": 85.0}, "Judged by a small model.")
    assert panel.name == "peers" and panel.html.count("<tr") == 19  # a head, seventeen models and one's own
    assert "mine &amp; others" in panel.html and "Judged by a small model. * quoted" in panel.html and "0.84*" in panel.html
