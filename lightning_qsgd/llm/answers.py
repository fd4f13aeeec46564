"""Read the final answer of a worked solution, and tell whether two are the same number."""

import re
from decimal import Decimal

MARK = "####"
NUMBER = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?![0-9/:])")


def final_answer(text: str) -> str | None:
    """Return the number after the first `####`, in a form in which equal numbers are equal.

    Commas, `$`, signs of plus and trailing zeros do not count. The first mark is meant, since a
    model that does not stop goes on to invent a next problem with an answer of its own.

    Args:
        text: A worked solution, or what a model wrote.

    Returns:
        The number without an exponent, or None if no number follows a mark.

    Example:
        >>> final_answer("He pays 3 * 400 = 1200. #### $1,200.00"), final_answer("#### -0.50")
        ('1200', '-0.5')
        >>> final_answer("The answer is 12.") is None
        True
    """
    _, mark, rest = text.partition(MARK)
    line = rest.strip().split("\n")[0] if mark else ""
    found = NUMBER.match(re.sub(r"[$,\s]", "", line))
    if found is None:
        return None
    number = Decimal(found.group())
    if not number:
        return "0"
    # `normalize` would round to the 28 digits of decimal's context.
    digits = format(number, "f")
    return digits.rstrip("0").rstrip(".") if "." in digits else digits


def is_exact_match(generated: str, expected: str) -> bool:
    """Tell whether a generated solution ends in the expected number.

    Args:
        generated: What a model wrote.
        expected: The worked solution of the set.

    Returns:
        False where either holds no final answer.

    Example:
        >>> is_exact_match("so 5 + 5. #### 10.0", "5 + 5 = 10 #### 10")
        True
    """
    answer = final_answer(generated)
    return answer is not None and answer == final_answer(expected)
