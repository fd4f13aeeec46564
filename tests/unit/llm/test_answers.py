"""Final answers: equal numbers are equal however they are written, and nothing else is."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lightning_qsgd.llm.answers import ExactMatch, final_answer, is_exact_match


@pytest.mark.parametrize(
    ("written", "number"),
    [
        ("#### 72", "72"),
        ("#### $1,234.50", "1234.5"),
        ("####-7", "-7"),
        ("#### -$7", "-7"),
        ("#### +7.", "7"),
        ("#### 0.0", "0"),
        ("#### -0", "0"),
        ("#### .25", "0.25"),
        ("#### 1200000000000000000000000000001", "1200000000000000000000000000001"),
        ("#### 100 miles", "100"),
        ("#### 12\nQuestion: another? #### 13", "12"),
        ("#### 1/2", None),
        ("#### 12/5", None),
        ("#### 10:30", None),
        ("#### ten", None),
        ("####", None),
        ("72", None),
        ("", None),
    ],
)
def test_final_answer_is_the_number_after_the_first_mark(written: str, number: str | None) -> None:
    assert final_answer(written) == number


@given(st.integers(-(10**12), 10**12), st.integers(0, 99))
def test_writing_does_not_change_a_number(whole: int, cents: int) -> None:
    plain = f"#### {whole}.{cents:02d}"
    decorated = f"so\n####   ${whole:,}.{cents:02d}00 "
    assert final_answer(plain) == final_answer(decorated)
    assert is_exact_match(decorated, plain)
    assert not is_exact_match(f"#### {whole + 1}.{cents:02d}", plain)


def test_nothing_written_is_no_match_even_where_nothing_is_expected() -> None:
    assert not is_exact_match("no idea", "no number either")


def test_exact_match_counts_over_updates_and_processes() -> None:
    first, second = ExactMatch(), ExactMatch()
    first.update(["#### 1", "#### 2"], ["#### 1.0", "#### 3"])
    second.update(["#### 5"], ["#### 5"])
    second.update([], [])
    first.merge_state(second)
    torch.testing.assert_close(first.compute(), torch.tensor(2 / 3))


def test_exact_match_refuses_unpaired_solutions() -> None:
    with pytest.raises(ValueError, match=r"as many generated .* got 1 and 2: they are compared"):
        ExactMatch().update(["#### 1"], ["#### 1", "#### 2"])
