"""The remasking study: its log against hand-worked decodes, its frontier against known ones, arms on a model, the page."""

import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from diptych.data.puzzles import task
from diptych.models.hub import save_model
from diptych.models.masked_lm import MaskedLM, MaskedLMConfig
from diptych.recipes import remasking as recipe
from diptych.recipes.remasking_arms import Cell, Decoded, drawn_alike, parsed, placed
from diptych.recipes.remasking_decoders import rows
from diptych.recipes.remasking_field import RESAMPLES, beyond, interval_of, paired, verdict, weights
from diptych.recipes.remasking_frontier import combined, frontier
from diptych.recipes.remasking_log import REOPENED, decode_log, replay
from diptych.recipes.remasking_probe import fault
from diptych.samplers.adaptive import Bernoulli
from diptych.samplers.fixed import Fixed
from diptych.samplers.masked import Threshold
from diptych.samplers.remasking import Repair, Wino
from diptych.samplers.resampling import ReMDM
from diptych.study import Unit

M = 9


@pytest.fixture(scope="module")
def weights_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    shape = MaskedLMConfig(5, 32, width=16, depth=1, heads=2, hidden=16, positions="grid", box=(2, 2))
    model = MaskedLM(shape, torch.Generator().manual_seed(1))
    save_model(model, shape, folder / "sudoku4" / "0", {"task": "sudoku4", "replica": 0})
    return folder


def arm(folder, rule, **options):
    return Decoded((("sudoku4-0", folder / "sudoku4" / "0"),), rule, 16, **options)


def units(cell, count=3, seeds=1):
    return [Unit(cell.item(i), seed) for i in range(count) for seed in range(seeds)]


def test_items_say_their_cell():
    cell = Cell("latin6", 6, 0.8)
    assert cell.item(7) == "latin6-0/B6/T0.8/0007"
    assert parsed(cell.item(7, dev=True)) == (cell, 7, True)
    other = cell._replace(replica=2)
    assert other.checkpoint == "latin6-2" and parsed(other.item(0))[0] == other
    with pytest.raises(ValueError, match="TASK-0/B8"):
        parsed("latin6/7")


def test_a_hand_worked_log():
    states = np.array(
        [
            [[1, M, M, M]],  # position 0 is given
            [[1, 2, 3, M]],  # two tokens at once: nothing was written before, so nothing is checked
            [[1, M, 3, 4]],  # one token: WINO may not reopen here, but this one does
            [[1, 2, 3, 4]],  # and the token comes back
        ]
    )
    log = decode_log(states, M, 4, "shadow", 12)
    assert (log.commits[0], log.remasks[0], log.returned[0], log.asked[0]) == (4, 1, 1, 3)
    assert log.covered[0] == 0
    assert log.events[0, :5].tolist() == [[1, 1, 2], [1, 2, 3], [2, 1, REOPENED], [2, 3, 4], [3, 1, 2]]
    assert np.array_equal(replay(log.events[0], states[0, 0], M), states[:, 0])
    assert decode_log(states, M, 4, "seen", 12).covered[0] == 2  # positions 2 and 3; 1 was written last
    assert decode_log(states, M, 4, "all", 12).covered[0] == 3


def test_coverage_needs_two_writes_in_the_same_block():
    states = np.array([[[M] * 6], [[0, M, M, M, M, M]], [[0, 1, 2, M, M, M]], [[0, 1, 2, 3, 4, M]], [[0, 1, 2, 3, 4, 5]]])
    assert decode_log(states, M, 3, "shadow", 20).covered[0] == 1  # position 0, when 1 and 2 are written
    assert decode_log(states, M, 6, "shadow", 20).covered[0] == 3  # 0, then 1 and 2 when 3 and 4 are written
    assert decode_log(states, M, 6, "none", 20).covered[0] == 0


@pytest.mark.parametrize("rule", [Threshold(0.3), Wino(0.25, 0.5), Repair(0.3), ReMDM("conf"), Fixed(4)])
def test_an_arms_log_replays_to_its_answer(weights_folder, rule):
    cell = Cell("sudoku4", 8, 0.8)
    made = arm(weights_folder, rule)(units(cell))
    start = np.full(16, 5)
    for row in range(3):
        states = replay(made.arrays["log"][row], start, 5)
        assert states[-1].tolist() == made.arrays["answer"][row].tolist()
        taken = sum(int(((a != 5) & (a != b)).sum()) for a, b in pairwise(states))
        assert taken == made.trace["remasks"][row]
    assert (made.trace["commits"] - made.trace["remasks"] == 16).all()


def test_seeds_that_cannot_differ_are_decoded_once_and_noise_is_the_prompts(weights_folder):
    greedy, warm = Cell("sudoku4", 4, 0.0), Cell("sudoku4", 4, 1.0)
    rule = arm(weights_folder, Threshold(0.9))
    same, drawn = rule(units(greedy, 2, 2)).arrays["answer"], rule(units(warm, 2, 2)).arrays["answer"]
    assert np.array_equal(same[0], same[1])
    assert not np.array_equal(drawn[0], drawn[1])
    alone = rule([Unit(warm.item(1), 1)]).arrays["answer"][0]
    assert np.array_equal(alone, drawn[3])
    assert [drawn_alike(one) for one in (Wino(), Bernoulli(), Wino(unmask="bernoulli"), Fixed(1, "random"))] == [
        True,
        False,
        False,
        False,
    ]


def test_a_decoder_is_placed_on_the_cell():
    assert placed(Wino(0.6), 8, 0.5, 3) == Wino(0.6, block=8, temperature=0.5, prompt=3)
    assert placed(ReMDM("cap"), 8, 0.5, 3) == ReMDM("cap", temperature=0.5)


def test_probes_hold_exact_leave_one_out(weights_folder):
    """One layer cannot leak through other tokens: its isolated slots are leave-one-out, and joint ones see no more."""
    made = arm(weights_folder, Wino(0.25, 0.5), probe=True)(units(Cell("sudoku4", 16, 0.0), 6))
    probe = made.arrays["probe"]
    there = probe[..., 2] >= 0
    assert there.any()
    assert np.allclose(probe[there][:, 1], probe[there][:, 2], atol=1e-6)
    assert np.abs(probe[there][:, 3] - probe[there][:, 2]).max() > 1e-3


def test_the_frontier_is_the_best_for_as_much_or_less():
    cost, quality = np.array([[1.0, 2.0, 4.0, 3.0]]), np.array([[0.1, 0.5, 0.9, 0.4]])
    asked = [0.5, 1.0, 1.5, 2.0, 3.0, 3.5, 4.0, 9.0]
    found = [float(frontier(cost, quality, np.array([at]))[0]) for at in asked]
    assert found == pytest.approx([0.1, 0.1, 0.3, 0.5, 0.5, 0.7, 0.9, 0.9])


def test_verdicts_of_two_units_in_one():
    assert combined("worse", "equivalent") == combined("worse", "worse") == "dominated"
    assert combined("better", "worse") == combined("undecided", "better") == "unit-dependent"
    assert combined("better", "better") == "better"
    assert combined("undecided", "worse") == "undecided"
    assert combined("identical", "equivalent") == "equivalent"


def test_weights_are_one_pass_the_resamples_and_each_left_out():
    table = weights(9)
    assert table.shape == (1 + RESAMPLES + 9, 9)
    assert (table[0] == 1).all()
    assert (table.sum(1)[1 : 1 + RESAMPLES] == 9).all()
    assert (table.sum(1)[1 + RESAMPLES :] == 8).all()


def test_paired_verdicts():
    rng = np.random.default_rng(0)
    right = (rng.random((300, 2)) < 0.6).astype(float)
    flipped = right.copy()
    flipped[:60] = 1.0
    assert verdict(paired(right, right), 0.01) == "identical"
    assert verdict(paired(flipped, right), 0.01) == "better"
    assert verdict(paired(right, flipped), 0.01) == "worse"
    assert verdict(paired(right[:5], right[:5]), 0.01) == "too few units"


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="did you mean 'latin6'"):
        replace(recipe.CONFIGS["tiny"], tasks="latin")
    with pytest.raises(ValueError, match="sudoku4/0 is missing"):
        recipe.study(replace(recipe.CONFIGS["tiny"], weights="nowhere"))
    with pytest.raises(ValueError, match="none below 0"):
        replace(recipe.CONFIGS["tiny"], temperatures=(-1.0,))
    with pytest.raises(ValueError, match=r"share: 'sodoku9' 0\.5 .*did you mean 'sudoku9'"):
        replace(recipe.CONFIGS["tiny"], share={"sodoku9": 0.5})


def test_solutions_are_counted():
    count = recipe.CountSolutions()
    prompt = task("sudoku4").prompts("test", 486)[3]
    found = task("sudoku4").solutions(prompt)
    assert found is not None and count(Cell("sudoku4", 4, 0.0).item(3)) == len(found)


def test_every_arm_is_declared_and_the_paper_cell_is_primary(weights_folder):
    made = recipe.study(replace(recipe.CONFIGS["tiny"], weights=str(weights_folder)))
    assert made.primary == "accuracy sudoku4-0/B4/T0"
    assert made.clusters["sudoku4-0/B4/T0.8/0001"] == made.clusters["sudoku4-0/B16/T0/0001"] == "sudoku4/1"
    tuned = {arm.name for arm in made.arms if any("dev" in item for item in arm.items or ())}
    assert tuned == {row.name for row in rows() if row.where == "swept"}


def test_cells_of_a_full_study():
    config = replace(
        recipe.CONFIGS["full"], tasks="latin6,text", prompts=4, drawn=2, dev=1, few=3, temperatures=(0.0, 0.8, 1.5)
    )
    cells = config.cells()
    first = [cell for cell in cells if cell.checkpoint == "latin6-0"]
    assert {cell.block for cell in first} == {2, 3, 4, 6, 9, 12, 18, 36}  # every divisor above 1
    assert len(first) == 8 * 3
    assert {(c.block, c.temperature) for c in cells if c.checkpoint == "latin6-2"} == {
        (b, t) for b in (6, 12, 36) for t in (0.0, 0.8)
    }
    assert {cell.replica for cell in cells if cell.task == "text"} == {0}  # there is one model
    asked = {row.name: set(config.items_of(row)) for row in rows()}
    assert "latin6-0/B18/T1.5/0001" in asked["wino-0.7"] and "latin6-0/B18/T1.5/0002" not in asked["wino-0.7"]
    assert "latin6-0/B18/T0/0003" in asked["klass"] and "latin6-0/B18/T0.8/0000" not in asked["klass"]
    assert "latin6-2/B6/T0.8/0000" in asked["saber"] and "latin6-2/B6/T0.8/0000" not in asked["klass"]
    assert {parsed(item)[0].block for item in asked["order-entropy"]} == {36}
    assert "text-0/B96/T0/0000" in asked["saber"] and not any("text" in item for item in asked["klass"])
    assert asked["wino-exact-0.7"] == {Cell("latin6", b, 0.0).item(i) for b in (6, 12, 36) for i in range(3)}
    short = replace(config, standard=10, prose=3, share={"latin6": 0.5})
    sizes = [Cell("latin6", 6, 0.0), Cell("latin6", 6, 0.8), Cell("latin6", 12, 0.0), Cell("text", 12, 0.0)]
    assert [(len(short.tests(cell)), len(short.tests(cell, swept=False))) for cell in sizes] == [(5, 2), (1, 1), (2, 2), (3, 3)]
    dev = {parsed(item)[0] for item in asked["one"] if "/dev" in item}
    assert dev == {cell for cell in cells if config.is_shown(cell) and cell.replica == 0}


def test_a_token_at_fault_is_one_without_which_there_is_a_right_answer():
    right = np.array([[0, 1, 2, 3], [1, 0, 3, 2]])
    assert fault(np.array([0, 1, M, M]), right, M).tolist() == [0, 0, 0, 0]  # can be completed
    assert fault(np.array([0, 1, 3, M]), right, M).tolist() == [0, 0, 1, 0]
    assert fault(np.array([0, 0, M, M]), right, M).tolist() == [1, 1, 0, 0]  # either may go
    assert fault(np.array([0, 0, 3, 3]), right, M).tolist() == [0, 0, 0, 0]  # two would have to go
    assert fault(np.array([0, 1, M, M]), None, M).tolist() == [-1, -1, -1, -1]


def test_prose_has_a_likelihood_and_the_same_masks_whoever_wrote_it(tmp_path):
    shape = MaskedLMConfig(95, 128, width=16, depth=1, heads=2, hidden=16, positions="rotary")
    model = MaskedLM(shape, torch.Generator().manual_seed(1))
    save_model(model, shape, tmp_path / "0", {"task": "text", "replica": 0})
    models, cell = (("text-0", tmp_path / "0"),), Cell("text", 32, 0.8)
    made = Decoded(models, Threshold(0.05), 96)(units(cell, 2, 2))
    nll = made.trace["nll"]
    assert (nll > 1).all() and made.trace["ok"].sum() == 0
    alone = Decoded(models, Threshold(0.05), 96)(units(cell, 2, 2)[3:])
    assert alone.trace["nll"][0] == pytest.approx(nll[3], rel=1e-5)
    assert not np.allclose(nll[0], nll[1])


@pytest.mark.slow
def test_tiny_runs_and_its_page_answers(weights_folder, tmp_path):
    from diptych.compare.run import run

    config = replace(recipe.CONFIGS["tiny"], weights=str(weights_folder))
    page = run(recipe.study(config), tmp_path / "run", progress=False)
    panels = {panel["name"]: panel["html"] for panel in json.loads((tmp_path / "run" / "panels.json").read_text())}
    assert {"answers", "frontiers", "matched", "map", "mechanism", "detectors", "diversity", "strip", "paper"} <= set(panels)
    assert all(f"C{n}:" in panels["answers"] for n in range(1, 6))
    assert "<svg" in panels["strip"] and page.stat().st_size > 100_000


def test_rounding_is_no_difference():
    tiny = np.full(2 + RESAMPLES + 8, 1.7e-18)
    found = interval_of(tiny[: 1 + RESAMPLES + 9], 9)
    assert (found.value, found.low, found.high) == (0.0, 0.0, 0.0)
    assert beyond(found, 0.0) == "undecided"
