"""Random choices that need no state: each is a function of a seed, a name and a place, so any place can be asked for first.

Hashes are SplitMix64 (Steele et al. 2014); permutations of 0..n-1 are swap-or-not networks (Hoang, Morris, Rogaway 2012), which
give the image of one place without making the others, for any n. Everything works on whole numpy arrays of places.
"""

from __future__ import annotations

import hashlib

import numpy as np

ROUNDS = 24  # swap-or-not; with 16, all orders of 2 to 6 things are already uniform to chi-square over 40,000 permutations

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


def named(seed: int, stream: str) -> np.uint64:
    """The key of a stream of choices."""
    return np.uint64(int.from_bytes(hashlib.blake2b(f"{seed}\0{stream}".encode(), digest_size=8).digest(), "little"))


def hashed(key: np.uint64 | np.ndarray, place: np.ndarray) -> np.ndarray:
    """64 random bits for each (key, place); the two broadcast."""
    with np.errstate(over="ignore"):  # of the scalar key; arrays wrap silently
        return mixed(np.asarray(key, np.uint64) + _GOLDEN * (np.asarray(place).astype(np.uint64) + np.uint64(1)))


def mixed(word: np.ndarray) -> np.ndarray:
    """SplitMix64's finaliser."""
    word = (word ^ (word >> np.uint64(30))) * _MIX_1
    word = (word ^ (word >> np.uint64(27))) * _MIX_2
    return word ^ (word >> np.uint64(31))


def below(bits: np.ndarray, n: np.ndarray | int) -> np.ndarray:
    """A uniform integer in 0..n-1 for each 64 random bits, int64; n < 2**32 (the bias is below n / 2**32)."""
    return (((bits >> np.uint64(32)) * np.asarray(n, np.uint64)) >> np.uint64(32)).astype(np.int64)


def uniform(bits: np.ndarray) -> np.ndarray:
    """A number in [0, 1) for each 64 random bits, float64."""
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


def permuted(key: np.uint64 | np.ndarray, place: np.ndarray, n: np.ndarray | int) -> np.ndarray:
    """Where a random permutation of 0..n-1 takes `place`.

    Args:
        key: which permutation; one for all places, or one each.
        place: (B,) in 0..n-1.
        n: one length for all, or one each; below 2**32.

    Returns:
        (B,) int64; equal keys and lengths give one bijection, whatever else is in the call.
    """
    place = np.asarray(place, np.int64)
    n = np.broadcast_to(np.asarray(n, np.int64), place.shape)
    key = np.broadcast_to(np.asarray(key, np.uint64), place.shape)
    rounds = np.arange(ROUNDS, dtype=np.int64)[:, None]
    pivots = below(hashed(key, rounds), n)
    coins = mixed(hashed(key, rounds + ROUNDS))
    for pivot, coin in zip(pivots, coins, strict=True):
        other = pivot - place
        other += np.where(other < 0, n, 0)
        upper = np.maximum(place, other)
        swap = mixed(coin + upper.astype(np.uint64)) & np.uint64(1)
        place = np.where(swap.astype(bool), other, place)
    return place
