"""Functions of singular values: the two evaluations, and an oracle of loops over torch's SVD."""

from collections.abc import Callable
from math import pi

import pytest
import torch
from torch import Tensor

from lightning_qsgd.perturbations import spectrum as spectrum_module
from lightning_qsgd.perturbations.spectrum import (
    exact_part,
    largest_eigenvalue,
    leeway_of,
    odd_coefficients,
    polynomial_part,
)

Function = Callable[[Tensor], Tensor]

FUNCTIONS: dict[str, Function] = {
    "linear": lambda s: -s,
    "sine": lambda s: -torch.sin(pi / 2 * s),
    "sine of s squared times s": lambda s: s * torch.sin(pi * s**2),
    "T_7": lambda s: torch.cos(7 * torch.arccos(s)),
}
TOLERANCE = 1e-6


def of_rank(shape: tuple[int, int], singular: list[float], seed: int = 0) -> Tensor:
    """A matrix of given singular values, float64."""
    generator = torch.Generator().manual_seed(seed)
    rows, columns = (
        torch.linalg.qr(torch.randn(n, n, generator=generator, dtype=torch.float64))[0]
        for n in shape
    )
    middle = torch.zeros(shape, dtype=torch.float64)
    for index, value in enumerate(singular):
        middle[index, index] = value
    return rows @ middle @ columns


def random(shape: tuple[int, int], seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


MATRICES: dict[str, Tensor] = {
    "square": random((6, 6)),
    "wide": random((4, 9)),
    "tall": random((11, 3)),
    "row": random((1, 5)),
    "column": random((5, 1)),
    "one entry": random((1, 1)),
    "large": 1e6 * random((5, 7)),
    "small": 1e-9 * random((5, 7)),
    "zero": torch.zeros(3, 4, dtype=torch.float64),
    "rank one": of_rank((5, 4), [2.0]),
    "rank two of five": of_rank((5, 8), [3.0, 0.5]),
    "repeated": of_rank((4, 4), [2.0, 2.0, 1.0, 1.0]),
    "identity": torch.eye(5, dtype=torch.float64),
    "condition 1e6": of_rank((6, 6), [10.0 ** (-k) for k in range(0, 12, 2)]),
    "condition 1e12": of_rank((4, 6), [1.0, 1e-4, 1e-8, 1e-12]),
}


def by_loops(matrix: Tensor, function: Function) -> Tensor:
    """U u(s) V^T, one singular direction after the other."""
    u, singular, v = torch.linalg.svd(matrix, full_matrices=False)
    total = torch.zeros_like(matrix)
    for index, value in enumerate(singular.tolist()):
        if singular[0] > 0:
            share = torch.tensor(value / float(singular[0]), dtype=torch.float64)
            total += function(share) * torch.outer(u[:, index], v[index])
    return total


@pytest.mark.parametrize("matrix", MATRICES.values(), ids=MATRICES)
@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
def test_both_evaluations_equal_the_singular_value_decomposition(
    function: Function, matrix: Tensor
) -> None:
    expected = by_loops(matrix, function)
    exact = exact_part(matrix[None], function)[0]
    by_polynomial, _ = polynomial_part(matrix[None], odd_coefficients(function), iterations=40)
    torch.testing.assert_close(exact, expected, atol=TOLERANCE, rtol=0.0)
    torch.testing.assert_close(by_polynomial[0], expected, atol=TOLERANCE, rtol=0.0)


@pytest.mark.parametrize("seed", range(24))
def test_both_evaluations_agree_on_random_shapes_and_ranks(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    rows, columns, rank = (int(n) for n in torch.randint(1, 24, (3,), generator=generator))
    left = torch.randn(rows, rank, generator=generator, dtype=torch.float64)
    right = torch.randn(rank, columns, generator=generator, dtype=torch.float64)
    matrix = (left @ right)[None]
    for function in FUNCTIONS.values():
        exact = exact_part(matrix, function)
        part, _ = polynomial_part(matrix, odd_coefficients(function), iterations=40)
        torch.testing.assert_close(part, exact, atol=TOLERANCE, rtol=0.0)


def test_a_batch_is_evaluated_as_its_matrices_are() -> None:
    batch = torch.stack([random((5, 8), seed) * 10.0**seed for seed in range(4)])
    batch[2] = 0.0
    sine = FUNCTIONS["sine"]
    coefficients = odd_coefficients(sine)
    together, _ = polynomial_part(batch, coefficients, iterations=40)
    for matrix, exact, part in zip(batch, exact_part(batch, sine), together, strict=True):
        torch.testing.assert_close(exact, exact_part(matrix[None], sine)[0])
        torch.testing.assert_close(part, exact, atol=TOLERANCE, rtol=0.0)


def test_scaling_a_matrix_changes_nothing() -> None:
    matrix, sine = random((1, 5, 7)), FUNCTIONS["sine"]  # type: ignore[arg-type]
    torch.testing.assert_close(exact_part(3e4 * matrix, sine), exact_part(matrix, sine))
    coefficients = odd_coefficients(sine)
    torch.testing.assert_close(
        polynomial_part(3e4 * matrix, coefficients)[0], polynomial_part(matrix, coefficients)[0]
    )


def test_single_precision_is_as_exact_as_its_digits_allow() -> None:
    matrix, sine = random((16, 24)), FUNCTIONS["sine"]
    expected = exact_part(matrix[None], sine).float()
    single = matrix.float()[None]
    torch.testing.assert_close(exact_part(single, sine), expected, atol=1e-6, rtol=0.0)
    part, _ = polynomial_part(single, odd_coefficients(sine), iterations=40)
    torch.testing.assert_close(part, expected, atol=1e-5, rtol=0.0)


def test_a_constant_function_gives_the_sign_of_the_matrix() -> None:
    matrix = random((5, 8))
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    torch.testing.assert_close(exact_part(matrix[None], torch.ones_like)[0], u @ v)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_matrix_that_is_not_finite_gives_zeros_and_its_neighbours_stay(bad: float) -> None:
    batch = torch.stack([random((3, 4), 0), random((3, 4), 1)])
    alone = exact_part(batch[1:], FUNCTIONS["sine"])
    batch[0, 1, 2] = bad
    coefficients = odd_coefficients(FUNCTIONS["sine"])
    for part in (
        exact_part(batch, FUNCTIONS["sine"]),
        polynomial_part(batch, coefficients, iterations=40)[0],
    ):
        assert not part[0].any()
        torch.testing.assert_close(part[1:], alone, atol=TOLERANCE, rtol=0.0)


def test_the_degree_comes_from_the_tail_of_the_coefficients() -> None:
    sine = FUNCTIONS["sine"]
    lengths = [len(odd_coefficients(sine, tolerance)) for tolerance in (1e-2, 1e-4, 1e-6, 1e-10)]
    assert lengths == sorted(set(lengths))
    s = torch.linspace(0, 1, 101, dtype=torch.float64)
    for tolerance in (1e-2, 1e-4, 1e-6):
        odd = odd_coefficients(sine, tolerance)
        series = sum(c * torch.cos((2 * k + 1) * torch.arccos(s)) for k, c in enumerate(odd))
        assert (series - sine(s)).abs().max() <= tolerance


def test_a_function_with_a_jump_at_zero_is_refused() -> None:
    with pytest.raises(ValueError, match=r"as an odd polynomial.*limit is 63.*evaluation='exact'"):
        odd_coefficients(torch.cos)


@pytest.fixture
def products(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """The vectors that matrices are multiplied with, while a test runs."""
    seen = list[Tensor]()
    image = spectrum_module._image

    def counted(symmetric: Tensor, vectors: Tensor) -> Tensor:
        seen.append(vectors)
        return image(symmetric, vectors)

    monkeypatch.setattr(spectrum_module, "_image", counted)
    return seen


def test_a_warm_start_needs_few_iterations(products: list[Tensor]) -> None:
    matrix = of_rank((24, 24), [1.0, 0.97, 0.9, 0.5, 0.1])
    moved = matrix + 1e-4 * random((24, 24))
    expected = exact_part(moved[None], FUNCTIONS["sine"])
    coefficients = odd_coefficients(FUNCTIONS["sine"])
    _, start = polynomial_part(matrix[None], coefficients, iterations=100)
    products.clear()
    part, _ = polynomial_part(moved[None], coefficients, start, iterations=2)
    assert float((part - expected).abs().max()) < 1e-3
    assert len(products) == 3


def test_the_largest_singular_value_is_hardly_ever_underestimated() -> None:
    for seed in range(50):
        matrix = random((12, 20), seed)[None]
        value, _ = largest_eigenvalue(matrix @ matrix.mT)
        true = torch.linalg.matrix_norm(matrix, ord=2) ** 2
        assert 0.98 < float(value / true) < 1.1


def test_a_value_that_has_not_converged_is_not_underestimated() -> None:
    gram = torch.diag(torch.tensor([1.0, 0.5]))[None]
    value, _ = largest_eigenvalue(gram, torch.tensor([[0.6, 0.8]]), iterations=1)
    assert 1.0 <= value.item() < 1.1


@pytest.mark.parametrize("left", [0.0, torch.nan])
def test_a_vector_that_a_step_of_zeros_left_is_found_anew(left: float) -> None:
    matrix = random((3, 20, 30))  # type: ignore[arg-type]
    gram = matrix @ matrix.mT
    expected, start = largest_eigenvalue(gram)
    start[1] = left
    values, vectors = largest_eigenvalue(gram, start)
    expected[1] = torch.linalg.eigvalsh(gram[1])[-1]
    torch.testing.assert_close(values, expected, rtol=1e-3, atol=0.0)
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(3, dtype=gram.dtype))


@pytest.mark.parametrize("rows", [24, 200])
def test_a_vector_that_is_lost_costs_its_own_matrix_alone(
    rows: int, products: list[Tensor]
) -> None:
    settled = torch.arange(float(rows), 0.0, -1.0).diag().repeat(2, 1, 1)
    start = torch.eye(rows)[:1].repeat(2, 1)
    start[1] = torch.nan
    values, vectors = largest_eigenvalue(settled, start, iterations=2)
    torch.testing.assert_close(values, torch.full((2,), float(rows)), rtol=1e-2, atol=0.0)
    torch.testing.assert_close(vectors, torch.eye(rows)[:1].repeat(2, 1), rtol=0.0, atol=0.1)
    assert {len(vector) for vector in products[3:]} == {1}


def test_autocast_rounds_nothing() -> None:
    gram = torch.stack([random((24, 40), seed).float() for seed in range(4)])
    gram = gram @ gram.mT
    start = torch.eye(24)[0].repeat(4, 1)  # of none of them
    expected, following = largest_eigenvalue(gram, start)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        values, vectors = largest_eigenvalue(gram, start)
    torch.testing.assert_close(values, expected, rtol=1e-6, atol=0.0)
    torch.testing.assert_close(vectors, following)


@pytest.mark.parametrize("shape", [(20, 48), (48, 20)])
def test_a_part_lies_in_memory_as_its_matrices_do(shape: tuple[int, int]) -> None:
    matrix = random(shape)[None]
    for coefficients in ([1.0], [1.0, 0.5], [1.0, 0.5, 0.2, 0.1]):
        part, _ = polynomial_part(matrix, coefficients)
        assert part.is_contiguous()  # or it would be copied, entry by entry, at every step


def test_a_matrix_of_zeros_asks_for_no_more_iterations(products: list[Tensor]) -> None:
    matrix = of_rank((20, 30), [1.0, 0.3, 0.2]).repeat(2, 1, 1)
    _, start = largest_eigenvalue(matrix @ matrix.mT)
    products.clear()
    matrix[0], start[0] = 0.0, 0.0  # as a frozen part leaves it at every step
    values, _ = largest_eigenvalue(matrix @ matrix.mT, start, iterations=4)
    assert values[0] == 0
    assert len(products) == 5


def slightly_larger(rows: int, start: Tensor) -> Tensor:
    """Two large eigenvalues; `start` is the vector of the smaller one."""
    other = torch.roll(start, 1)
    return 0.9 * torch.outer(start, start) + torch.outer(other, other)


GRAMS: dict[str, Callable[[int, Tensor], Tensor]] = {
    "the last direction is the smallest": lambda rows, _: torch.arange(1.0, rows + 1).diag(),
    "another one is a little larger": slightly_larger,
    "another one is far larger": lambda rows, _: (
        torch.ones(rows).index_fill(0, torch.tensor(rows - 1), 1e4).diag()
    ),
    "all are equal": lambda rows, _: torch.eye(rows),
    "the last direction vanished": lambda rows, start: torch.eye(rows) - torch.outer(start, start),
    "noise": lambda rows, _: random((rows, rows), 3).float() @ random((rows, rows), 3).float().mT,
    "one direction": lambda rows, _: torch.ones(rows, rows),
}


@pytest.mark.parametrize("scale", [1e-18, 1.0, 1e15])
@pytest.mark.parametrize("rows", [2, 3, 7, 16, 17, 24, 64, 130])
@pytest.mark.parametrize("gram", GRAMS.values(), ids=GRAMS)
def test_the_largest_eigenvalue_is_found_from_a_direction_that_is_the_largest_no_more(
    gram: Callable[[int, Tensor], Tensor], rows: int, scale: float
) -> None:
    start = torch.eye(rows)[0]
    matrix = gram(rows, start)
    value, vectors = largest_eigenvalue(scale * matrix[None], start[None], iterations=2)
    true = torch.linalg.eigvalsh(matrix.double())[-1]
    assert abs(value.item() / scale / true.item() - 1) <= spectrum_module.LEEWAY
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(1))


@pytest.mark.parametrize("seed", range(10))
def test_the_largest_eigenvalues_of_unrelated_matrices_are_found_one_after_the_other(
    seed: int,
) -> None:
    start = None
    for step in range(8):
        matrices = torch.stack([random((24, 40), 1000 * seed + 10 * step + k) for k in range(3)])
        gram = matrices @ matrices.mT
        values, start = largest_eigenvalue(gram, start, iterations=2)
        true = torch.linalg.eigvalsh(gram)[:, -1]
        torch.testing.assert_close(values, true, rtol=spectrum_module.LEEWAY, atol=0.0)


def test_a_batch_asks_more_only_of_the_matrix_that_needs_it(products: list[Tensor]) -> None:
    settled = torch.arange(40.0, 0.0, -1.0).diag()
    gram = torch.stack([settled, settled.flip(0, 1), settled])
    values, vectors = largest_eigenvalue(gram, torch.eye(40)[:1].repeat(3, 1), iterations=2)
    assert [len(vector) for vector in products] == [3] * 3 + [1] * 21
    torch.testing.assert_close(values, torch.full((3,), 40.0), rtol=0.02, atol=0.0)
    assert vectors[0, 0] == vectors[2, 0] == 1


@pytest.mark.parametrize("degree", [1, 3, 5, 9, 15, 21, 31])
@pytest.mark.parametrize("ratio", [1.0098, 1.0001, 0.9999])
def test_an_error_of_the_largest_singular_value_changes_no_readout_by_more_than_said(
    degree: int, ratio: float
) -> None:
    """A direction that was the largest is kept, and another one is a little larger."""
    tolerance = 5e-3
    function: Function = lambda s: -torch.sin(degree * pi / 2 * s)  # noqa: E731
    coefficients = odd_coefficients(function, tolerance)
    singular = torch.cat([torch.tensor([1.0, ratio]), torch.linspace(0.9, 0.01, 38)]).double()
    start = torch.eye(40, dtype=torch.float64)[:1]
    part, _ = polynomial_part(singular.diag()[None], coefficients, start, iterations=2)
    found, expected = part[0].diagonal(), function(singular / singular.max())
    largest = tolerance + spectrum_module.LARGEST_CHANGE
    torch.testing.assert_close(found, expected, rtol=0.0, atol=largest)


def test_steep_functions_ask_for_the_largest_singular_value_more_exactly() -> None:
    def leeway(factor: float) -> float:
        return leeway_of(tuple(odd_coefficients(lambda s: torch.sin(factor * pi / 2 * s), 5e-3)))

    assert leeway_of((-1.0,)) == leeway(1.0) == spectrum_module.LEEWAY  # these cost what they did
    assert leeway(1.0) > leeway(3.0) > leeway(9.0) > leeway(31.0) > 1e-6


@pytest.mark.parametrize("leeway", [2e-2, 1e-3, 1e-5])
@pytest.mark.parametrize("seed", range(5))
def test_the_largest_eigenvalue_is_as_exact_as_is_asked(leeway: float, seed: int) -> None:
    start = None
    for step in range(4):
        matrices = torch.stack([random((24, 40), 1000 * seed + 10 * step + k) for k in range(3)])
        gram = matrices @ matrices.mT
        values, start = largest_eigenvalue(gram, start, 2, leeway)
        true = torch.linalg.eigvalsh(gram)[:, -1]
        torch.testing.assert_close(values, true, rtol=leeway, atol=0.0)
