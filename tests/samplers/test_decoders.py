"""Decoders against hand-worked steps and an exact joint, whose shadow slots cannot leak: rules, bounds and published bugs."""

import math
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import torch

sys.path.append(str(Path(__file__).parent.parent / "conformance"))
from exact import Joint

from diptych.denoise import Canvas
from diptych.noise import Noise
from diptych.process import Masked
from diptych.sample import sample
from diptych.samplers.adaptive import Bernoulli, EntropyBound, Factor, Klass
from diptych.samplers.decoders import DECODERS, decoder
from diptych.samplers.editing import Edit, Saber
from diptych.samplers.masked import Ancestral, Quota, Threshold
from diptych.samplers.remasking import Repair, Wino, with_shadows
from diptych.samplers.resampling import PathPlanning, ReMDM
from diptych.schedule import uniform_grid

JOINT = Joint(length=6, vocab=2, sharpness=2.5)
MASK = JOINT.vocab


def draw(rule, rows=64, steps=6, joint=JOINT, x=None, denoise=None):
    noise = Noise(tuple(f"w{i}" for i in range(rows)))
    process = Masked(joint.vocab, joint.vocab)
    return sample(process, rule, denoise or joint.denoise, uniform_grid(steps), (joint.length,), noise, x=x, trajectory=True)


def told(probabilities, vocab=3):
    """A denoiser that gives token 0 these probabilities, position by position, whatever is written."""
    p = torch.tensor(probabilities)
    table = torch.stack([p, *[(1 - p) / (vocab - 1)] * (vocab - 1)], -1).log()

    def denoise(x, t, cond):
        ids = x.ids if isinstance(x, Canvas) else x
        places = x.positions if isinstance(x, Canvas) else torch.arange(len(p)).expand(ids.shape)
        return table[places]

    return denoise


def counts(rule, probabilities, vocab=3):
    """Tokens written at each step for one row."""
    noise, process = Noise(("a",)), Masked(vocab, vocab)
    shape = (len(probabilities),)
    drawn = sample(process, rule, told(probabilities, vocab), uniform_grid(1), shape, noise, trajectory=True)
    left = [len(probabilities)] + [int((x == vocab).sum()) for _, x in drawn.trajectory]
    return [a - b for a, b in pairwise(left)]


def reopened(drawn, mask=MASK):
    """Positions reopened at each step, summed over steps, (rows,)."""
    states = [x for _, x in drawn.trajectory]
    return sum(((a != mask) & (b == mask)).sum(1) for a, b in pairwise(states))


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("tau", [0.5, 0.8])
def test_wino_that_never_reopens_is_the_threshold(tau, temperature):
    plain = draw(Threshold(tau, block=3, temperature=temperature))
    shadowed = draw(Wino(tau, 0.0, block=3, temperature=temperature, capped=False))
    assert torch.equal(plain.x, shadowed.x)
    assert torch.equal(plain.evaluations, shadowed.evaluations)
    assert torch.equal(shadowed.tokens, shadowed.evaluations * (6 + 3))
    assert torch.equal(shadowed.pairs, shadowed.evaluations * (6 * 6 + 3 * (5 + 3)))


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_without_layers_every_shadow_is_leave_one_out(temperature):
    """The joint answers from visible tokens alone, so slots cannot leak what other slots saw."""
    rules = [Wino(0.75, 1.1, temperature=temperature, shadow=shadow) for shadow in ("joint", "alone", "exact")]
    joint, alone, exact = (draw(rule) for rule in rules)
    assert torch.equal(joint.x, exact.x) and torch.equal(alone.x, exact.x)
    assert temperature == 0 or int(reopened(joint).sum()) > 0
    assert torch.equal(reopened(joint), reopened(exact))
    assert bool((exact.evaluations > joint.evaluations)[reopened(joint) > 0].all())


@pytest.mark.parametrize("block", [1, 2, 3, 6])
def test_wino_ends_within_a_step_a_token_and_cannot_reopen_in_blocks_of_three(block):
    """To reopen one, two must be written at once after two or more were: four positions."""
    drawn = draw(Wino(0.75, 1.1, block=block, temperature=1.0), rows=256)
    assert int(drawn.evaluations.max()) <= 6
    assert (int(reopened(drawn).sum()) == 0) == (block <= 3)


def test_wino_writes_at_most_its_cap_the_surest_first():
    sure = [0.99] * 30
    assert counts(Wino(0.5, 0.0), sure) == [20, 7, 3]  # int(0.7 x 30) = 21 held to 20; 0.7 x 10; at least five allowed
    assert counts(Wino(0.5, 0.0, capped=False), sure) == [30]
    assert counts(Threshold(0.5, cap=8), sure) == [8, 8, 8, 6]


def test_shadow_slots_leave_the_canvas_alone():
    x = torch.tensor([[0, MASK, 1, MASK, 0, 1]])
    canvas = with_shadows(x, (2, 5), MASK, "joint")
    assert canvas.ids.tolist() == [[0, MASK, 1, MASK, 0, 1, MASK, MASK, MASK]]
    assert canvas.positions.tolist() == [[0, 1, 2, 3, 4, 5, 2, 3, 4]]
    assert not bool(canvas.attend[0, :6, 6:].any())
    assert canvas.attend[0, 6].tolist() == [True, True, False, True, True, True, True, True, True]
    alone = with_shadows(x, (2, 5), MASK, "alone").attend
    assert alone[0, 7].tolist() == [True, True, True, False, True, True, False, True, False]


def test_factor_writes_the_longest_passing_run():
    # Thresholds 1 - 1/3, 1 - 1/4, 1 - 1/5 for ranks 2, 3, 4; the first is always written.
    assert counts(Factor(1.0), [0.6, 0.5, 0.5]) == [1, 1, 1]
    assert counts(Factor(1.0), [0.9, 0.85, 0.8, 0.7]) == [3, 1]
    assert counts(Factor(1.0), [0.9, 0.85, 0.8, 0.81]) == [4]
    assert counts(Factor(2.0), [0.6, 0.5, 0.5]) == [3]


def test_the_published_factor_loop_writes_the_failing_last_token_too():
    assert counts(Factor(1.0, upstream=True), [0.9, 0.85, 0.8, 0.7]) == [4]
    assert counts(Factor(1.0, upstream=True), [0.9, 0.85, 0.5, 0.45]) == [2, 2]
    assert counts(Factor(1.0), [0.9, 0.85, 0.5, 0.45]) == [2, 1, 1]


def test_entropy_bound_counts_what_lies_beyond_the_largest():
    def nats(p):
        return -p * math.log(p) - (1 - p) * math.log((1 - p) / 2)

    sure = [0.99, 0.95, 0.9]
    assert counts(EntropyBound(0.0), sure) == [1, 1, 1]
    assert counts(EntropyBound(nats(0.99) * 1.001), sure) == [2, 1]
    assert counts(EntropyBound(nats(0.99) * 0.999), sure) == [1, 1, 1]
    assert counts(EntropyBound((nats(0.99) + nats(0.95)) * 1.001), sure) == [3]
    assert counts(EntropyBound(0.0), [1 - 1e-9] * 3) == [3] or nats(1 - 1e-9) > 0


def test_a_larger_entropy_bound_never_costs_more():
    evaluations = [draw(EntropyBound(gamma), rows=128).evaluations for gamma in (0.0, 0.1, 0.5, 1.0, 10.0)]
    means = [float(e.double().mean()) for e in evaluations]
    assert means == sorted(means, reverse=True)
    assert means[0] == 6 and means[-1] == 1


def test_klass_waits_until_a_prediction_has_stood_still():
    # Nothing moves here: two calm steps must pass before all that is confident is written at once.
    assert counts(Klass(tau=0.6), [0.9] * 6) == [1, 1, 4]
    assert counts(Klass(tau=0.6, history=1), [0.9] * 6) == [1, 5]
    assert counts(Klass(tau=0.95, quota=2), [0.9] * 6) == [2, 2, 2]


def test_bernoulli_accepts_as_often_as_it_is_sure():
    drawn = draw(Bernoulli(2.0), rows=4000, denoise=told([0.5] * 6, vocab=2))
    first = drawn.trajectory[0][1]
    written = (first != MASK).double()
    chance = 0.25 + 0.75**6 / 6  # and the first position where nothing was accepted
    assert abs(float(written[:, 1:].mean()) - 0.25) < 4 * math.sqrt(0.25 * 0.75 / 20000)
    assert float(written[:, 0].mean()) > chance


@pytest.mark.parametrize(
    ("order", "expected"),
    [("left", [0, 1, 2]), ("confidence", [1, 2, 0]), ("entropy", [1, 2, 0]), ("margin", [1, 2, 0]), ("top", [1, 2, 0])],
)
def test_orders_of_a_quota(order, expected):
    noise = Noise(("a",))
    drawn = sample(Masked(3, 3), Quota(order=order), told([0.4, 0.9, 0.6]), uniform_grid(3), (3,), noise, trajectory=True)
    states = [torch.full((3,), 3), *[x[0] for _, x in drawn.trajectory]]
    written = [int(((a == 3) & (b != 3)).nonzero()) for a, b in pairwise(states)]
    assert written == expected


def test_a_random_order_is_uniform_and_its_units_own():
    first = draw(Quota(order="random"), rows=6000, joint=Joint(length=3, vocab=2), steps=3).trajectory[0][1]
    share = (first != 2).double().mean(0)
    assert bool(((share - 1 / 3).abs() < 4 * math.sqrt(2 / 9 / 6000)).all())


def written(rule):
    """States of one row whose first position is almost surely token 0."""
    noise, process = Noise(("a",)), Masked(3, 3)
    table = torch.tensor([[0.98, 0.01, 0.01], [0.2, 0.7, 0.1], [0.3, 0.1, 0.6]]).log()
    drawn = sample(process, rule, lambda x, t, c: table.expand(1, 3, 3), uniform_grid(3), (3,), noise, trajectory=True)
    return [x[0].tolist() for _, x in drawn.trajectory]


@pytest.mark.parametrize("temperature", [0.0, 1e-3])
def test_late_tokens_are_written_last_at_every_temperature(temperature):
    last = [[3, 1, 3], [3, 1, 2], [0, 1, 2]]
    assert written(Quota(late=(0,), temperature=temperature)) == last
    forgot = [[0, 3, 3], [0, 1, 3], [0, 1, 2]]
    assert written(Quota(late=(0,), temperature=temperature, upstream=True)) == (forgot if temperature else last)


def test_the_published_order_by_entropy_is_turned_round():
    assert written(Quota(order="entropy")) == [[0, 3, 3], [0, 1, 3], [0, 1, 2]]
    assert written(Quota(order="entropy", upstream=True)) == [[3, 3, 2], [3, 1, 2], [0, 1, 2]]


def test_repair_mends_a_planted_error_and_leaves_what_is_right():
    joint = Joint(length=6, vocab=2, sharpness=8.0)
    words, p = joint.table()
    best = words[p.argmax()]
    wrong = best.clone()
    wrong[4] = 1 - wrong[4]

    def draft_is_wrong(x, t, cond):
        """Independent marginals that insist on the planted error, until the canvas is full."""
        if isinstance(x, Canvas) or bool((x != MASK).any()):
            return joint.denoise(x, t, cond)
        return torch.nn.functional.one_hot(wrong, 2).double().clamp(0.01, 0.99).log().expand(len(x), 6, 2)

    drawn = draw(Repair(tau=0.5, floor=0.3), rows=2, denoise=draft_is_wrong)
    assert drawn.trajectory[0][1].tolist() == [wrong.tolist()] * 2
    after = drawn.trajectory[1][1]
    assert bool((after[:, 4] == MASK).all())
    assert float(joint.distance(drawn.x)) < 1 and bool((drawn.x == best).all())
    assert drawn.evaluations.tolist() == [1 + 1 + len(drawn.trajectory) - 2] * 2


def test_repair_of_a_certain_draft_costs_one_evaluation_more():
    drawn = draw(Repair(), rows=3, denoise=told([0.99] * 6, vocab=2))
    assert drawn.evaluations.tolist() == [2, 2, 2]


@pytest.mark.parametrize("kind", ["cap", "rescale", "conf"])
def test_remdm_keeps_the_mask_rate_of_the_process(kind):
    eta = {"cap": 0.3, "rescale": 0.5, "conf": 1.0}[kind]
    drawn = draw(ReMDM(kind, eta), rows=3000, steps=5)
    assert int(reopened(drawn).sum()) > 100
    if kind != "conf":  # its strengths differ between positions, so single rates need not agree
        for t, x in drawn.trajectory:
            assert abs(float((x == MASK).double().mean()) - t) < 4 * math.sqrt(0.25 / 18000) + 1e-9


def test_remdm_without_strength_is_ancestral():
    assert torch.equal(draw(ReMDM("rescale", 0.0), steps=4).x, draw(Ancestral(), steps=4).x)


def test_remdm_loop_stands_at_its_level():
    drawn = draw(ReMDM("loop", eta=0.1), rows=3000, steps=40)
    rates = {round(t, 3): float((x == MASK).double().mean()) for t, x in drawn.trajectory}
    assert all(abs(rates[t] - 0.1) < 0.015 for t in (0.5, 0.3, 0.1))
    assert rates[0.0] == 0


def test_remdm_approaches_the_joint():
    assert JOINT.distance(draw(ReMDM("cap", 0.1), rows=4000, steps=48).x) < 0.09


def test_path_planning_keeps_its_schedule_and_reopens_only_with_weight():
    for eta, reopens in ((0.0, False), (1.0, True), (2.0, True)):
        blind = told([0.9, 0.6, 0.7, 0.8, 0.5, 0.95], vocab=2)
        drawn = draw(PathPlanning(eta, temperature=1.0), rows=128, steps=6, denoise=blind)
        assert [int((x == MASK).sum(1).max()) for _, x in drawn.trajectory] == [5, 4, 3, 2, 1, 0]
        assert (int(reopened(drawn).sum()) > 0) == reopens


def test_saber_writes_two_at_least_and_ends():
    drawn = draw(Saber(share=2, temperature=1.0), rows=128)
    assert int(drawn.evaluations.max()) <= 6
    assert counts(Saber(), [0.9] * 6) == [2, 2, 2]
    assert counts(Saber(least=1), [0.5, 0.9, 0.6, 0.6, 0.6, 0.6]) == [1, 1, 1, 1, 1, 1]


def test_saber_writes_all_that_beat_the_mean_of_what_stands():
    def grows_sure(x, t, cond):
        p = torch.where((x != 3).any(1), 0.95, 0.6)[:, None].expand(x.shape)
        return torch.stack([p, (1 - p) / 2, (1 - p) / 2], -1).log()

    drawn = draw(Saber(), rows=1, denoise=grows_sure, joint=Joint(length=6, vocab=3))
    assert [int((x == 3).sum()) for _, x in drawn.trajectory] == [4, 0]


def test_editing_overwrites_or_reopens_what_the_model_doubts():
    table = torch.tensor([[[0.97, 0.02, 0.01], [0.5, 0.3, 0.2]], [[0.01, 0.98, 0.01], [0.97, 0.02, 0.01]]]).log()

    def changes_its_mind(x, t, cond):
        """Once position 0 is written, the model prefers token 1 there."""
        return torch.stack([table[int(row[0] != 3)] for row in x])

    def run(rule):
        return sample(Masked(3, 3), rule, changes_its_mind, uniform_grid(1), (2,), Noise(("a",)), trajectory=True)

    over = run(Edit(to="token", when="other"))
    assert [x[0].tolist() for _, x in over.trajectory] == [[0, 3], [1, 0], [1, 0]]
    assert run(Edit(to="token", when="low", floor=0.001)).x.tolist() == [[0, 0]]
    assert run(Edit(to="mask", when="low")).x.tolist() == [[0, 0]]  # one written, so none may be reopened


def test_a_decoder_is_made_by_name_and_options(tmp_path):
    assert decoder("wino", ["tau1=.6", "shadow=alone"]) == Wino(tau1=0.6, shadow="alone")
    with pytest.raises(ValueError, match="decoder 'wiho' is unknown; did you mean 'wino'"):
        decoder("wiho")
    with pytest.raises(ValueError, match="tau3"):
        decoder("wino", ["tau3=1"])
    own = tmp_path / "own.py"
    own.write_text("from diptych.samplers.masked import Threshold\nstrict = Threshold(0.99)\n")
    assert decoder(f"{own}:strict") == Threshold(0.99)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Wino(shadow="deep"), "shadow: 'deep' is unknown"),
        (lambda: Quota(order="confidense"), "did you mean 'confidence'"),
        (lambda: Threshold(order="left"), "is no probability"),
        (lambda: Factor(0), "factor: 0 is not positive"),
        (lambda: EntropyBound(-1), "gamma: -1 is negative"),
        (lambda: ReMDM("half"), "kind 'half' is unknown"),
        (lambda: Repair(rounds=0), "rounds: 0"),
        (lambda: Klass(history=0), "history 0"),
        (lambda: draw(Wino(block=4)), "block: 4 does not divide the generation length 6"),
        (lambda: draw(Threshold(prompt=6)), "leave an answer of 0"),
    ],
)
def test_bad_options_are_one_clear_line(make, words):
    with pytest.raises(ValueError, match=words):
        make()


@pytest.mark.parametrize("name", sorted(set(DECODERS) - {"ancestral", "remdm", "path_planning"}))
def test_a_prompt_is_never_touched_and_blocks_divide_the_answer(name):
    start = torch.tensor([[0, 1, MASK, MASK, MASK, MASK]] * 16)
    options = {"steps": 4, "rows": 16, "x": start}
    drawn = draw(DECODERS[name](block=2, prompt=2, temperature=1.0), **options)
    assert bool((drawn.x[:, :2] == start[:, :2]).all()) and bool((drawn.x != MASK).all())
    filled = [(x[:, 2:4] != MASK).all(1) | (x[:, 4:] == MASK).all(1) for _, x in drawn.trajectory]
    assert name == "repair" or bool(torch.stack(filled).all())
