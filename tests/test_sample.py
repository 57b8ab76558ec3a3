import pytest
import torch

from diptych.denoise import Canvas
from diptych.guide import ClassifierFree
from diptych.noise import Noise
from diptych.process import Gaussian, Masked
from diptych.sample import Bound, Forwards, sample
from diptych.samplers.continuous import SAMPLERS, Euler, Heun
from diptych.samplers.masked import Threshold
from diptych.schedule import uniform_grid

KEYS = tuple("abcdefg")
NOISE = Noise(KEYS)


def half(x, t, cond):
    return x / 2


def sure(x, t, cond):
    """Log-probabilities over 4 tokens that favour token (position mod 4), surer to the left."""
    logits = torch.zeros(*x.shape, 4)
    place = torch.arange(x.shape[1])
    logits[:, place, place % 4] = 5.0 - place / x.shape[1]
    return logits.log_softmax(-1)


@pytest.mark.parametrize(
    ("grid", "words"),
    [
        ([1.0], r"grid: \[1\] must fall"),
        ([0.0, 1.0], r"grid: \[0, 1\] must fall"),
        ([1.0, 0.5, 0.5, 0.0], r"\[1, 0.5, 0.5, 0\] must fall"),
        ([1.5, 0.0], "must fall from at most 1"),
        ([1.0, -0.1], "to at least 0"),
        ([1.0, float("nan"), 0.0], "must fall"),
        ([1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.5], r"\[1, 0.9, 0.8, ..., 0.5, 0.5\]"),
        ([0.8, 0.0], "starts at 0.8 without a state; give x, or start at 1"),
    ],
)
def test_a_grid_that_cannot_be_walked_is_an_error(grid, words):
    with pytest.raises(ValueError, match=words):
        sample(Gaussian(), Euler(), half, torch.tensor(grid), (2,), NOISE)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"x": torch.zeros(3, 2)}, "x has 3 rows for 7 rows of noise"),
        ({"cond": {"text": torch.zeros(6, 2)}}, "text has 6 rows for 7 rows of noise"),
        ({"x": torch.zeros(7, 3)}, r"x holds states of shape \(3,\), but shape is \(2,\)"),
        ({"batch": 0}, "batch 0 is not positive"),
        ({"batch": -2}, "batch -2 is not positive"),
    ],
)
def test_rows_that_do_not_fit_are_an_error(options, words):
    with pytest.raises(ValueError, match=words):
        sample(Gaussian(), Euler(), half, uniform_grid(2), (2,), NOISE, **options)


@pytest.mark.parametrize(("name", "a_step", "last"), [("euler", 1, 1), ("heun", 2, 1), ("rk4", 4, 3), ("dpmpp_2m", 1, 1)])
def test_evaluations_are_counted_per_unit(name, a_step, last):
    drawn = sample(Gaussian(), SAMPLERS[name](), half, uniform_grid(5), (2,), NOISE, batch=3)
    assert drawn.evaluations.tolist() == [4 * a_step + last] * 7
    assert drawn.tokens.tolist() == drawn.pairs.tolist() == [0] * 7
    assert drawn.x.shape == (7, 2)


def test_guidance_counts_one_evaluation_and_two_forwards():
    net = Forwards(half)
    cond = {"text": torch.zeros(7, 1)}
    drawn = sample(Gaussian(), Euler(), net, uniform_grid(4), (2,), NOISE, cond=cond, guidance=ClassifierFree(2.0))
    assert drawn.evaluations.tolist() == [4] * 7
    assert net.rows == 2 * 4 * 7


def test_guidance_is_built_for_each_batch():
    built = []

    def guidance(denoise):
        built.append(denoise)
        return denoise

    sample(Gaussian(), Euler(), half, uniform_grid(2), (2,), NOISE, batch=3, guidance=guidance)
    assert built == [half] * 3


def test_conditions_follow_their_rows():
    seen = []

    def net(x, t, cond):
        seen.append(cond["label"].tolist())
        return x * 0 + cond["label"][:, None]

    drawn = sample(Gaussian(), Euler(), net, uniform_grid(1), (2,), NOISE, batch=3, cond={"label": torch.arange(7.0)})
    assert seen == [[0, 1, 2], [3, 4, 5], [6]]
    assert torch.equal(drawn.x[:, 0], torch.arange(7.0))


def test_the_start_is_the_prior_of_the_keys_or_what_is_given():
    kept = sample(Gaussian(), Euler(), lambda x, t, cond: x, uniform_grid(3), (2,), NOISE)  # x0 = x: the flow is zero
    assert torch.allclose(kept.x, NOISE.normal((2,), "prior"))
    start = torch.arange(14.0).reshape(7, 2)
    grid = torch.tensor([0.6, 0.3, 0.0])
    drawn = sample(Gaussian(), Euler(), lambda x, t, cond: x, grid, (2,), NOISE, x=start, batch=2)
    assert torch.equal(drawn.x, start)
    times = []
    sample(Gaussian(), Heun(), lambda x, t, cond: (times.append(t[0].item()), x)[1], grid, (2,), NOISE, x=start)
    assert times == pytest.approx([0.6, 0.3, 0.3])


def test_a_walk_may_stop_above_0():
    drawn = sample(Gaussian(), Heun(), half, torch.tensor([1.0, 0.5, 0.25]), (2,), NOISE, trajectory=True)
    assert [t for t, _ in drawn.trajectory] == [0.5, 0.25]
    assert drawn.evaluations.tolist() == [4] * 7


def test_the_trajectory_holds_every_step_of_all_batches():
    drawn = sample(Gaussian(), Heun(), half, uniform_grid(4), (2, 3), NOISE, batch=3, trajectory=True)
    assert [t for t, _ in drawn.trajectory] == [0.75, 0.5, 0.25, 0.0]
    assert all(x.shape == (7, 2, 3) for _, x in drawn.trajectory)
    assert torch.equal(drawn.trajectory[-1][1], drawn.x)
    whole = sample(Gaussian(), Heun(), half, uniform_grid(4), (2, 3), NOISE, trajectory=True)
    for (_, a), (_, b) in zip(drawn.trajectory, whole.trajectory):
        assert torch.equal(a, b)
    assert sample(Gaussian(), Heun(), half, uniform_grid(4), (2, 3), NOISE).trajectory == ()


def test_trajectories_of_batches_that_take_unequal_steps_are_joined():
    """The first batch is written at the start, the second needs one step, the third four."""
    start = torch.full((3, 4), 4)
    start[0] = torch.tensor([3, 3, 3, 3])
    start[1, 1:] = 0
    drawn = sample(
        Masked(4, 4), Threshold(tau=2.0), sure, uniform_grid(1), (4,), Noise(tuple("abc")), x=start, batch=1, trajectory=True
    )
    assert drawn.evaluations.tolist() == [0, 1, 4]
    assert [t for t, _ in drawn.trajectory] == [0.75, 0.5, 0.25, 0.0]
    for _, x in drawn.trajectory:
        assert x[:2].tolist() == [[3, 3, 3, 3], [0, 0, 0, 0]]
    assert drawn.x.tolist() == [[3, 3, 3, 3], [0, 0, 0, 0], [0, 1, 2, 3]]


def test_gradients_reach_the_start_when_asked_and_only_then():
    start = torch.ones(7, 2, requires_grad=True)
    drawn = sample(Gaussian(), Heun(), half, uniform_grid(3), (2,), NOISE, x=start, gradients=True, batch=4, trajectory=True)
    drawn.x.sum().backward()
    grad = start.grad
    assert grad is not None and bool((grad > 0).all())
    # The flow of x0_hat = x / 2 is linear, so the derivative is the ratio of end to start.
    assert torch.allclose(grad, drawn.x.detach())
    assert not any(x.requires_grad for _, x in drawn.trajectory)
    assert not sample(Gaussian(), Heun(), half, uniform_grid(3), (2,), NOISE, x=start).x.requires_grad


def test_finish_is_applied_once_to_each_batch_and_progress_told_its_rows():
    finished, told = [], []

    def finish(x):
        finished.append(len(x))
        return x + 100

    plain = sample(Gaussian(), Euler(), half, uniform_grid(2), (2,), NOISE)
    drawn = sample(Gaussian(), Euler(), half, uniform_grid(2), (2,), NOISE, batch=3, finish=finish, progress=told.append)
    assert finished == told == [3, 3, 1]
    assert torch.equal(drawn.x, plain.x + 100)


def test_no_rows_give_no_samples_of_the_right_type():
    never = pytest.fail
    drawn = sample(Gaussian(), Heun(), lambda x, t, cond: never("asked"), uniform_grid(2), (2, 3), Noise(()), trajectory=True)
    assert (drawn.x.shape, drawn.x.dtype, drawn.trajectory) == ((0, 2, 3), torch.float32, ())
    text = sample(Masked(4, 4), Threshold(), sure, uniform_grid(2), (5,), Noise(()))
    assert (text.x.shape, text.x.dtype, len(text.evaluations)) == ((0, 5), torch.int64, 0)


def test_a_time_is_never_rounded_to_half_precision():
    seen = []

    def net(x, t, cond):
        seen.append((x.dtype, t.dtype, t[0].item()))
        return x

    grid = torch.tensor([1.0, 0.9971, 0.0], dtype=torch.float64)
    sample(Gaussian(), Euler(), net, grid, (2,), Noise(("a",), dtype=torch.bfloat16))
    assert seen[1] == (torch.bfloat16, torch.float32, torch.tensor(0.9971).item())
    seen.clear()
    sample(Gaussian(), Euler(), net, grid, (2,), Noise(("a",), dtype=torch.float64))
    assert seen[1] == (torch.float64, torch.float64, 0.9971)


def test_a_bound_denoiser_picks_conditions_and_counts_by_row():
    asked = []

    def net(x, t, cond):
        asked.append((t.tolist(), cond["label"].tolist()))
        return x

    bound = Bound(net, {"label": torch.tensor([10, 20, 30])}, 3)
    bound(torch.zeros(3, 2), 0.5)
    bound(torch.zeros(2, 2), torch.tensor([0.25, 0.75]), torch.tensor([2, 0]))
    assert asked == [([0.5] * 3, [10, 20, 30]), ([0.25, 0.75], [30, 10])]
    assert bound.evaluations.tolist() == [2, 1, 2]


def test_tokens_and_attended_pairs_of_a_canvas_are_counted():
    """A canvas with two shadow slots beyond the four of the answer, under an attention rule of its own."""
    bound = Bound(lambda x, t, cond: torch.zeros(*x.ids.shape, 4), {}, 3)
    attend = torch.ones(1, 6, 6, dtype=torch.bool).tril()
    bound(Canvas(torch.zeros(3, 6, dtype=torch.int64), attend=attend), 1.0)
    own = torch.stack([torch.eye(6), torch.ones(6, 6)]).bool()
    bound(Canvas(torch.zeros(2, 6, dtype=torch.int64), attend=own), 0.5, torch.tensor([0, 2]))
    assert bound.evaluations.tolist() == [2, 1, 2]
    assert bound.tokens.tolist() == [12, 6, 12]
    assert bound.pairs.tolist() == [21 + 6, 21, 21 + 36]
