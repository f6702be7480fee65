"""How far apart two arrays are."""

from dataclasses import dataclass

import numpy as np

CHUNK = 1 << 18  # elements that are compared at once: they and what is made of them stay in a processor's cache


@dataclass(frozen=True)
class Difference:
    """The distance of two arrays.

    Attributes:
        name: of the array.
        max_abs: largest absolute difference of two elements; infinite where the shapes differ or one is not finite.
        relative: that over the largest absolute element of the first array; 0 where both are zero.
        rms: root mean square of the differences over that of the first array; likewise.
        cosine: of the angle between them; 1 where they are equal.
        ulps: largest distance of two elements in units in the last place: steps from one float32 number to the next.
            Elements below a hundredth of the largest one are left out: what sums leave of them is rounding.
    """

    name: str
    max_abs: float
    relative: float
    rms: float
    cosine: float
    ulps: int


def difference(name: str, expected: np.ndarray, found: np.ndarray) -> Difference:
    """Returns the Difference of two arrays of floats; computed in float64."""
    if expected.shape != found.shape or not (np.isfinite(expected).all() and np.isfinite(found).all()):
        return Difference(name, np.inf, np.inf, np.inf, 0.0, 2**32)
    if np.array_equal(expected, found):
        return Difference(name, 0.0, 0.0, 0.0, 1.0, 0)
    one, other = expected.reshape(-1), found.reshape(-1)
    largest = float(np.abs(one).max())
    parts = np.array([sums_and_maxima(one[start:start + CHUNK], other[start:start + CHUNK], largest / 100)
                      for start in range(0, one.size, CHUNK)])
    squares, other_squares, products, squared_differences = parts[:, :4].sum(axis=0)
    max_abs, ulps = parts[:, 4:].max(axis=0).tolist()
    norms = np.sqrt(squares * other_squares)
    return Difference(name, max_abs, max_abs / largest if largest else np.inf,
                      float(np.sqrt(squared_differences / squares)) if squares else np.inf,
                      float(products / norms) if norms else 0.0, int(ulps))


def sums_and_maxima(one: np.ndarray, other: np.ndarray, least: float) -> tuple[float, ...]:
    """Returns what ``difference`` adds up over two flat arrays, and that of which it takes the largest."""
    steps = np.abs(float32_order(one) - float32_order(other))[np.abs(one) >= least].max(initial=0)
    one, other = one.astype(np.float64), other.astype(np.float64)
    gaps = one - other
    # Not ``@``, whose threads would wait for each other over so few numbers.
    products = [np.einsum("i,i", *pair) for pair in ((one, one), (other, other), (one, other), (gaps, gaps))]
    return *products, np.abs(gaps).max(), float(steps)


def float32_order(array: np.ndarray) -> np.ndarray:
    """Returns int64 numbers that count the float32 numbers from zero to each element, rounded to float32."""
    bits = array.astype(np.float32).view(np.int32).astype(np.int64)
    return np.where(bits < 0, -(bits & 0x7FFFFFFF), bits)


def relative_gap(expected: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Returns how far each of some numbers is from the expected one, relative to that one."""
    return np.abs(found / expected - 1.0)
