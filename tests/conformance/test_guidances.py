"""Every guidance: strength 1 is the conditional model alone, and the combination is the same in x0, eps, v and flow."""

import pytest
import torch
from exact import Joint, Mixture

from diptych.denoise import KINDS, from_x0, parameterize, to_x0
from diptych.guide import GUIDANCES, Autoguidance, ClassifierFree
from diptych.noise import Noise
from diptych.process import Gaussian, Masked
from diptych.sample import Forwards, sample
from diptych.samplers import continuous, masked
from diptych.schedule import SCHEDULES, VE, uniform_grid

GAUSSIAN_KINDS = [kind for kind in KINDS if kind != "logits"]
MIXTURE = Mixture()


def null(cond):
    return {"component": torch.full_like(cond["component"], -1)}


def guidances(strength, schedule):
    """One of each, the weak denoiser being that of a flatter mixture."""
    weak = Mixture(stds=(1.0, 0.9)).denoiser(schedule)
    return {"classifier_free": ClassifierFree(strength, null), "autoguidance": Autoguidance(strength, weak)}


def curve(name):
    return VE(5.0) if name == "ve" else SCHEDULES[name]()


def point(schedule, rows=6):
    noise = Noise(tuple(map(str, range(rows))), dtype=torch.float64)
    t = torch.linspace(0.2, 0.9, rows, dtype=torch.float64)
    x = Gaussian(schedule).corrupt(noise.normal((4,), "data"), t, noise)
    return x, t, {"component": torch.arange(rows) % 2}


def test_every_guidance_is_tested():
    assert set(guidances(1.0, curve("linear"))) == set(GUIDANCES)


@pytest.mark.parametrize("name", sorted(GUIDANCES))
@pytest.mark.parametrize("rule", sorted(continuous.SAMPLERS))
def test_strength_1_is_conditional_only_for_every_rule(name, rule):
    schedule = curve("linear")
    noise, cond = Noise(tuple("abcdef")), {"component": torch.arange(6) % 2}

    def run(guidance):
        net = Forwards(MIXTURE.denoiser(schedule))
        drawn = sample(
            Gaussian(schedule), continuous.SAMPLERS[rule](), net, uniform_grid(4), (3,), noise, cond=cond, guidance=guidance
        )
        return drawn, net.rows

    (plain, rows), (guided, guided_rows) = run(None), run(guidances(1.0, schedule)[name])
    assert torch.equal(plain.x, guided.x)
    assert guided_rows == rows == int(plain.evaluations.sum())
    stronger, _ = run(guidances(2.0, schedule)[name])
    assert not torch.allclose(stronger.x, plain.x, atol=0.01)
    assert torch.equal(stronger.evaluations, plain.evaluations)


@pytest.mark.parametrize("name", sorted(GUIDANCES))
@pytest.mark.parametrize("schedule", sorted(SCHEDULES))
@pytest.mark.parametrize("kind", GAUSSIAN_KINDS)
@pytest.mark.parametrize("strength", [0.0, 0.5, 3.0])
def test_the_combination_is_the_same_whatever_the_network_predicts(name, schedule, kind, strength):
    process = Gaussian(curve(schedule))
    x, t, cond = point(process.schedule)
    guidance = guidances(strength, process.schedule)[name]
    exact = MIXTURE.denoiser(process.schedule)
    away_x0 = guidance.weak(x, t, cond) if isinstance(guidance, Autoguidance) else exact(x, t, null(cond))
    away, towards = (from_x0(x0, x, t, kind, process) for x0 in (away_x0, exact(x, t, cond)))
    by_hand = to_x0(away + strength * (towards - away), x, t, kind, process)

    def net(x, t, cond):
        return from_x0(exact(x, t, cond), x, t, kind, process)

    guided = guidance(parameterize(net, kind, process))(x, t, cond)
    assert torch.allclose(guided, by_hand, atol=1e-9)


@pytest.mark.parametrize("rule", sorted(masked.SAMPLERS))
def test_guidance_of_text_combines_log_probabilities_and_keeps_the_impossible_out(rule):
    """The exact joint gives -inf to tokens that contradict those written; no NaN, no mask, no impossible word."""
    joint, process, rows = Joint(length=3), Masked(3, 3), 32
    noise = Noise(tuple(map(str, range(rows))))
    start = torch.full((rows, 3), 3)
    start[:, 0] = torch.arange(rows) % 3

    def denoise(x, t, cond):
        """The condition is the last token; the null branch does not know it."""
        known = torch.where(cond["null"], 3, cond["last"]) if "null" in cond else cond["last"]
        x = x.clone()
        x[:, 2] = torch.where(x[:, 2] == 3, known, x[:, 2])
        return joint.denoise(x, t, {})

    cond = {"last": torch.arange(rows) // 3 % 3}
    drawn = sample(
        process,
        masked.SAMPLERS[rule](),
        denoise,
        uniform_grid(3),
        (3,),
        noise,
        x=start,
        cond=cond,
        guidance=ClassifierFree(4.0),
    )
    assert bool((drawn.x < 3).all())
    assert torch.equal(drawn.x[:, 2], cond["last"])
    assert torch.equal(drawn.x[:, 0], start[:, 0])
