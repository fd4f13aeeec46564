"""Serve GSM8K, grade-school word problems, to a causal language model."""

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from lightning import LightningDataModule
from lightning.pytorch.utilities import rank_zero_info
from torch.utils.data import DataLoader, Sampler

from lightning_qsgd.argument_checks import require_at_least, require_seed
from lightning_qsgd.data.epoch_sampler import EpochSampler, ResumableLoader, epoch_order
from lightning_qsgd.llm.layouts import Batch, Example, Layout, Padded, Row, tokenise
from lightning_qsgd.llm.problems import Problem, download_problems, read_problems
from lightning_qsgd.llm.tokenizer_sources import PretrainedTokenizer, TokenizerSource

DEFAULT_TOKENIZER = PretrainedTokenizer("meta-llama/Llama-3.2-1B-Instruct")
DEFAULT_LAYOUT = Padded()


@dataclass(frozen=True)
class HeldOut:
    """Says which training problems are validated on instead.

    Args:
        size: Number of problems, 1 or more.
        seed: Seed of their choice, apart from that of the training, so that all seeds of a
            comparison are judged on the same problems.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> HeldOut(size=64).seed
        0
    """

    size: int = 256
    seed: int = 0

    def __post_init__(self) -> None:
        require_at_least("size", self.size, 1)
        require_seed("seed", self.seed, bits=64)


DEFAULT_HELD_OUT = HeldOut()


class _Parts(NamedTuple):
    train: list[Row]
    val: list[Row]
    test: list[Row]


class GSM8KDataModule(LightningDataModule):
    """Serve the problems of GSM8K, or of files of the same form, as rows of tokens.

    Tokenised once and kept in the cache. The train order is a pure function of the order seed and
    the epoch. Problems longer than the context are left out of all parts, and their number is said.

    Args:
        path: Folder with `train.jsonl` and `test.jsonl`, or a file to train on. None downloads
            GSM8K from the Hugging Face hub.
        tokenizer: Where the tokenizer comes from; it must be the model's.
        layout: How problems share rows, and how long rows are.
        batch_size: Rows per batch, 1 or more; the last batch may be smaller.
        held_out: Which training problems are validated on.
        order_seed: Seed of the train order, in [0, 2**64). None: the seed given to
            `seed_everything`.

    Attributes:
        tokenizer: The tokenizer, once `setup` has run.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> GSM8KDataModule("data/gsm8k", batch_size=4).batch_size
        4

    References:
        Cobbe et al., Training Verifiers to Solve Math Word Problems, arXiv:2110.14168.
    """

    def __init__(
        self,
        path: str | None = None,
        tokenizer: TokenizerSource = DEFAULT_TOKENIZER,
        layout: Layout = DEFAULT_LAYOUT,
        batch_size: int = 1,
        held_out: HeldOut = DEFAULT_HELD_OUT,
        order_seed: int | None = None,
    ) -> None:
        super().__init__()
        require_at_least("batch_size", batch_size, 1)
        require_seed("order_seed", order_seed, bits=64)
        self.path = path
        self.layout = layout
        self.batch_size = batch_size
        self.held_out = held_out
        self.order_seed = order_seed
        self.tokenizer: Any = None
        self._source = tokenizer
        self._parts: _Parts | None = None
        self._setup_seed = 0

    def setup(self, stage: str) -> None:
        """Read and tokenise the problems, and fix the seed of the train order.

        Args:
            stage: Lightning's stage; every stage makes the same parts.

        Raises:
            FileNotFoundError, ValueError: If there is nothing to read in `path`, or the tokenizer
                has no end token.
            RuntimeError: If there is no path, and the hub cannot be reached.
        """
        self._setup_seed = torch.initial_seed() if self.order_seed is None else self.order_seed
        if self._parts is not None:
            return
        problems = download_problems() if self.path is None else read_problems(self.path)
        train, val = self._hold_out(problems.train)
        self.tokenizer = self._source.build([text for problem in train for text in problem])
        _require_end(self.tokenizer)
        parts = (train, val, problems.test)
        self._parts = _Parts(
            *(self._rows(part, own) for part, own in zip(parts, NAMES, strict=True))
        )

    def train_dataloader(self) -> DataLoader[Batch]:
        """Serve the train part, shuffled by (seed, epoch).

        Returns:
            Batches of the layout.

        Raises:
            RuntimeError: Before `setup`.
        """
        rows = self._of("train")
        return self._loader(rows, EpochSampler(len(rows), self._setup_seed))

    def val_dataloader(self) -> DataLoader[Batch]:
        """Serve what was held out, in its own order.

        Returns:
            Batches of the layout.

        Raises:
            RuntimeError: Before `setup`.
        """
        return self._loader(self._of("val"))

    def test_dataloader(self) -> DataLoader[Batch]:
        """Serve the test part in its own order.

        Returns:
            Batches of the layout.

        Raises:
            RuntimeError: Before `setup`.
            FileNotFoundError: If there is no test part.
        """
        rows = self._of("test")
        if not rows:
            raise FileNotFoundError(
                f"Cannot test: {self.path} has no test part. Put a test.jsonl into the folder "
                "of train.jsonl, and give the folder as `path`."
            )
        return self._loader(rows)

    def _hold_out(self, problems: list[Problem]) -> tuple[list[Problem], list[Problem]]:
        size, total = self.held_out.size, len(problems)
        if size >= total:
            raise ValueError(
                f"Expected more than {size} problems to train on, got {total}, of which {size} "
                "would be held out: nothing would be left. Set `held_out.size` lower."
            )
        order = epoch_order(total, self.held_out.seed, 0)
        held_out, kept = sorted(order[:size]), sorted(order[size:])
        return [problems[index] for index in kept], [problems[index] for index in held_out]

    def _rows(self, problems: list[Problem], part: str) -> list[Row]:
        examples = tokenise(problems, self.tokenizer)
        fitting = [example for example in examples if len(example.tokens) <= self.layout.context]
        _report_left_out(examples, fitting, part, self.layout.context)
        rows = self.layout.rows([len(example.tokens) for example in fitting])
        return [[fitting[index] for index in row] for row in rows]

    def _of(self, part: str) -> list[Row]:
        if self._parts is None:
            raise RuntimeError(
                "Cannot serve GSM8KDataModule: its data is not set up yet. Call `setup('fit')` "
                "first, or pass the data module to a Trainer."
            )
        rows: list[Row] = getattr(self._parts, part)
        return rows

    def _loader(self, rows: list[Row], sampler: Sampler[int] | None = None) -> DataLoader[Batch]:
        pad = self.tokenizer.pad_token_id
        pad = self.tokenizer.eos_token_id if pad is None else pad
        return ResumableLoader(
            rows,  # type: ignore[arg-type]  # a list is a data set
            batch_size=self.batch_size,
            sampler=sampler,
            collate_fn=partial(self.layout.collate, pad_token=pad),
            # Without one, its iterator draws from torch's global state, and dropout would follow.
            generator=torch.Generator().manual_seed(self._setup_seed),
        )


NAMES = _Parts._fields


def _require_end(tokenizer: Any) -> None:
    """Refuse a tokenizer that cannot end an answer, pad a row or stop a generation."""
    if tokenizer.eos_token_id is None:
        raise ValueError(
            f"Expected a tokenizer with an end token, got `eos_token` {tokenizer.eos_token!r}: "
            "no answer would end. Name one of its tokens as `eos_token` in the "
            "tokenizer_config.json of its folder, or use the tokenizer of the instruct model."
        )


def _report_left_out(
    examples: list[Example], fitting: list[Example], part: str, context: int
) -> None:
    if examples and not fitting:
        longest = min(len(example.tokens) for example in examples)
        raise ValueError(
            f"Expected problems of at most {context} tokens in the {part} part, got {longest} and "
            "more: none of them fits into a row. Set the layout's `context` higher."
        )
    if len(fitting) < len(examples):
        rank_zero_info(
            f"Left out {len(examples) - len(fitting)} of {len(examples)} problems of the {part} "
            f"part: they are longer than the context of {context} tokens."
        )
