import math

import pytest

from lightning_qsgd.nn.transformer_classifier import sinusoidal_positions


def test_codes_equal_the_formula_in_plain_loops():
    codes = sinusoidal_positions(length=32, width=64)
    for p in range(32):
        for k in range(32):
            angle = p / 10_000 ** (2 * k / 64)
            assert codes[p, 2 * k].item() == pytest.approx(math.sin(angle), abs=1e-5)
            assert codes[p, 2 * k + 1].item() == pytest.approx(math.cos(angle), abs=1e-5)


def test_every_position_has_its_own_code():
    codes = sinusoidal_positions(length=32, width=64)
    assert len({tuple(row) for row in codes.tolist()}) == 32
