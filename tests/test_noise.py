import hashlib
import math
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from diptych.noise import Noise, Stream

KEYS = tuple(f"item {i % 8}#{i // 8}" for i in range(32))


def splitmix64(state: int, count: int) -> list[int]:
    """The published generator (Steele et al. 2014), a number at a time."""
    out = []
    for _ in range(count):
        state = (state + 0x9E3779B97F4A7C15) % 2**64
        z = state
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
        out.append(z ^ (z >> 31))
    return out


def both(noise, shape, stream="s"):
    return torch.cat([draw(shape, stream).reshape(len(noise), -1) for draw in (noise.normal, noise.uniform)], 1)


def test_numbers_are_those_of_splitmix64_from_a_hash_of_key_stream_and_step():
    seed = int.from_bytes(hashlib.blake2b(b"fox#0\0token\x003", digest_size=8).digest(), "little")
    bits = splitmix64(seed, 4)
    uniform = [((b >> 41) + 0.5) * 2.0**-23 for b in bits]
    assert Noise(("fox#0",)).at(3).uniform((4,), "token").tolist() == [uniform]
    fine = [((b >> 11) + 0.5) * 2.0**-53 for b in bits]
    radius, angle = math.sqrt(-2 * math.log(fine[0])), 2 * math.pi * fine[1]
    normal = Noise(("fox#0",)).at(3).normal((4,), "token")[0]
    assert normal[0].item() == pytest.approx(radius * math.cos(angle), rel=1e-6)
    assert normal[1].item() == pytest.approx(radius * math.sin(angle), rel=1e-6)


def test_golden_values():
    """Changing these changes every sample anyone has drawn."""
    noise = Noise(("fox#0", "fox#1"))
    assert noise.normal((5,), "prior").tolist() == [
        [-0.35931262373924255, -0.07895512133836746, -0.12657415866851807, 1.4005590677261353, 0.1655828356742859],
        [0.8408201336860657, -0.8205944299697876, 1.962565541267395, 0.535240888595581, 1.067523717880249],
    ]
    assert noise.at(3).uniform((3,), "token").tolist() == [
        [0.01906067132949829, 0.3354596495628357, 0.5381882786750793],
        [0.40822118520736694, 0.3140549063682556, 0.8802981972694397],
    ]


@pytest.mark.skipif(sys.platform != "linux", reason="names of processor features")
def test_numbers_do_not_depend_on_the_processors_vector_units():
    expression = "hashlib.sha256(Noise(tuple('abcdefgh')).normal((5000,), 's').numpy().tobytes()).hexdigest()"
    code = f"import hashlib; from diptych.noise import Noise; print({expression})"
    env = {**os.environ, "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SKX AVX512F"}
    other = subprocess.run([sys.executable, "-W", "ignore", "-c", code], env=env, capture_output=True, text=True)
    assert other.returncode == 0, other.stderr
    assert other.stdout.strip() == eval(expression)


@pytest.mark.parametrize("shape", [(), (1,), (2,), (7,), (3, 5), (16, 8, 8)])
def test_a_units_numbers_are_its_own_bit_for_bit(shape):
    noise = Noise(KEYS).at(2)
    whole = both(noise, shape)
    order = torch.randperm(32, generator=torch.Generator().manual_seed(0))
    for i in (0, 13, 31):
        assert torch.equal(both(Noise((KEYS[i],)).at(2), shape), whole[i : i + 1])
    assert torch.equal(both(noise.rows(order), shape), whole[order])
    assert torch.equal(both(noise.rows(torch.arange(1, 32, 3)), shape), whole[1::3])
    assert torch.equal(torch.cat([both(noise.rows(part), shape) for part in torch.arange(32).split(5)]), whole)
    assert torch.equal(both(Noise(KEYS[4:6] + KEYS[4:5]).at(2), shape)[2], whole[4])


@given(short=st.integers(0, 40), more=st.integers(0, 40))
@settings(max_examples=50, deadline=None)
def test_a_longer_draw_begins_with_the_shorter_one(short, more):
    noise = Noise(("a", "b"))
    for draw in (noise.normal, noise.uniform):
        assert torch.equal(draw((short + more,), "s")[:, :short], draw((short,), "s"))


def test_positions_own_their_numbers():
    noise = Noise(("a", "b"))
    assert torch.equal(noise.normal((9, 4), "s")[:, :5], noise.normal((5, 4), "s"))
    assert torch.equal(noise.uniform((9,), "s")[:, :5], noise.uniform((5,), "s"))


def test_keys_streams_and_steps_are_independent():
    count = 20_000
    draws = [
        Noise((key,)).at(step).normal((count,), stream)[0]
        for key in ("a#0", "a#1", "b#0")
        for stream in ("prior", "churn")
        for step in (0, 1, 11)
    ]
    correlation = np.corrcoef(torch.stack(draws).numpy()) - np.eye(len(draws))
    assert np.abs(correlation).max() < 5 / math.sqrt(count)
    shifted = np.corrcoef(draws[0][1:].numpy(), draws[0][:-1].numpy())[0, 1]
    assert abs(shifted) < 5 / math.sqrt(count)
    assert torch.equal(Noise(("a",)).at(4).at(1).normal((3,), "s"), Noise(("a",)).at(1).normal((3,), "s"))


def test_normal_numbers_are_standard_normal():
    x = Noise(KEYS).normal((20_000,), "s").double().flatten()
    n = len(x)
    assert abs(x.mean()) < 4 / math.sqrt(n)
    assert abs(x.var() - 1) < 4 * math.sqrt(2 / n)
    assert abs((x**3).mean()) < 4 * math.sqrt(15 / n)
    assert abs((x**4).mean() - 3) < 4 * math.sqrt(96 / n)
    assert stats.kstest(x[:50_000].numpy(), "norm").pvalue > 0.001
    assert stats.kstest(x[1::2][:50_000].numpy(), "norm").pvalue > 0.001  # the sine half


def test_uniform_numbers_are_uniform_and_strictly_inside():
    u = Noise(KEYS).uniform((40_000,), "s")
    assert 0 < u.min().item() < 1e-5
    assert 1 - 1e-5 < u.max().item() < 1
    assert stats.kstest(u.flatten()[:50_000].double().numpy(), "uniform").pvalue > 0.001


def test_extreme_bits_give_finite_normals_and_open_uniforms(monkeypatch):
    ends = np.array([[0, 2**64 - 1, 2**64 - 1, 0]], dtype=np.uint64)
    monkeypatch.setattr(Noise, "_bits", lambda self, count, stream: ends[:, :count])
    noise = Noise(("a",))
    assert bool(noise.normal((4,), "s").isfinite().all())
    u = noise.uniform((4,), "s")
    assert u.min().item() > 0
    assert u.max().item() < 1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_normals_are_cast_and_uniforms_stay_exact(dtype):
    plain, other = Noise(KEYS), Noise(KEYS, dtype=dtype)
    assert torch.equal(other.normal((50,), "s"), plain.normal((50,), "s").to(dtype))
    u = other.uniform((4000,), "s")
    assert torch.equal(u, plain.uniform((4000,), "s"))
    assert u.max().item() < 1


def test_no_rows_and_no_elements():
    assert Noise(()).normal((3, 2), "s").shape == (0, 3, 2)
    assert Noise(("a",)).uniform((0,), "s").shape == (1, 0)
    assert len(Noise(KEYS)) == 32


def test_a_stream_draws_in_turn_from_its_generator_and_resumes_from_its_state():
    generator = torch.Generator().manual_seed(5)
    stream = Stream(generator, 3)
    state = generator.get_state()
    first, second = stream.normal((2,), "a"), stream.at(7).uniform((2,), "b")
    generator.set_state(state)
    assert torch.equal(stream.normal((2,), "other name"), first)
    assert torch.equal(stream.uniform((2,), "b"), second)
    assert stream.rows(torch.tensor([0, 2])).normal((4,), "s").shape == (2, 4)
    assert first.shape == (3, 2)
    assert bool(((second >= 0) & (second < 1)).all())
