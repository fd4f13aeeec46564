"""Fine-tune a causal language model on answers, and let it solve problems."""

from collections.abc import Sequence
from typing import Any

import torch
from lightning import LightningModule
from torch import Tensor

from lightning_qsgd.argument_checks import in_order
from lightning_qsgd.llm.answers import ExactMatch, Generation, continue_greedily
from lightning_qsgd.llm.layouts import Batch, document_mask, document_positions, split_documents
from lightning_qsgd.llm.loss import answer_loss, num_answer_tokens
from lightning_qsgd.llm.model_changes import ModelChange, shard_layers
from lightning_qsgd.llm.model_sources import ModelSource
from lightning_qsgd.llm.schedule import LinearSchedule

DEFAULT_SCHEDULE = LinearSchedule()


class CausalLM(LightningModule):
    """Fit a causal language model of transformers by cross-entropy on the tokens of answers.

    Logged: `train/loss` (nats per answer token) at every step; `train/loss_epoch`, its mean over
    the epoch's steps, in which every step weighs the same (the paper's number: a reading, since it
    says "mean training loss"); `val/loss` and `test/loss`, means over all answer tokens; with
    `generation` also `val/exact_match` and `test/exact_match`, the share of problems whose
    generated final answer is right.

    The model is kept out of the hyperparameters, so that a checkpoint holds its weights once; give
    it again to reload: `CausalLM.load_from_checkpoint(path, model=...)`. Under
    `ModelParallelStrategy` its layers are sharded.

    Args:
        model: Where the model comes from.
        changes: What is done to it before training, in this order: `LoRA`,
            `GradientCheckpointing`.
        schedule: How the learning rate moves, whichever optimizer is used; None keeps it constant.
        generation: How many problems are solved at each evaluation; None for none. The data module
            must then have a `tokenizer`.
        learning_rate: Step size of the default optimizer, AdamW, above 0. LightningCLI's
            `--optimizer` replaces that optimizer and ignores this value.

    Raises:
        ValueError: If `learning_rate` is not above 0, or the model's source is wrong.
        ModuleNotFoundError: Without the extra `llm`.

    References:
        Table I and III of arXiv:2511.01918.
    """

    def __init__(
        self,
        model: ModelSource,
        changes: Sequence[ModelChange] = (),
        schedule: LinearSchedule | None = DEFAULT_SCHEDULE,
        generation: Generation | None = None,
        learning_rate: float = 2e-5,
    ) -> None:
        super().__init__()
        if not learning_rate > 0.0:
            raise ValueError(
                f"Expected `learning_rate` to be above 0, got {learning_rate}. AdamW needs a "
                "positive step size, e.g. 2e-5."
            )
        changes = in_order("changes", changes)
        self.save_hyperparameters("learning_rate")
        self.network = model.build()
        for change in changes:
            self.network = change.apply(self.network)
        self.network.train()  # a loaded model comes in evaluation mode, without dropout
        self.schedule = schedule
        self.generation = generation
        self.learning_rate = learning_rate
        self.val_exact_match = ExactMatch()
        self.test_exact_match = ExactMatch()
        self._tokenizer: Any = None

    def configure_model(self) -> None:
        """Shard the layers where the strategy has a mesh of devices.

        Raises:
            ValueError: If they cannot be sharded, or the mesh divides tensors too.
        """
        if self.device_mesh is not None:
            shard_layers(self.network, self.device_mesh)

    def setup(self, stage: str) -> None:
        """Take the tokenizer from the data module, and check that the model knows its tokens.

        Args:
            stage: Lightning's stage.

        Raises:
            ValueError: If there are more tokens than the model knows.
            RuntimeError: If answers are to be generated and cannot be.
        """
        self._tokenizer = getattr(getattr(self.trainer, "datamodule", None), "tokenizer", None)
        self._require_known_tokens()
        if self.generation is not None:
            self._require_generation()

    def on_fit_start(self) -> None:
        """Schedule the learning rate."""
        if self.schedule is not None:
            self.schedule.attach(self.trainer)

    def forward(self, batch: Batch) -> Tensor:
        """Compute the scores of every next token.

        Args:
            batch: `tokens`, int64, shape (batch, length), and `documents` where several share a
                row.

        Returns:
            Logits, float, shape (batch, length, vocabulary).
        """
        documents = batch.get("documents")
        masks = {}
        if documents is not None:
            masks["attention_mask"] = document_mask(documents)
            masks["position_ids"] = document_positions(documents)
        logits: Tensor = self.network(batch["tokens"], use_cache=False, **masks).logits
        return logits

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Compute the loss to minimise.

        Args:
            batch: A batch of a layout.
            batch_idx: Number of the batch in its epoch.

        Returns:
            Mean cross-entropy of the answer tokens in nats, float32, shape ().
        """
        loss = answer_loss(self(batch), batch["labels"])
        # One call with both flags would rename the step curve to `train/loss_step`.
        self.log("train/loss", loss, on_step=True, on_epoch=False, batch_size=1)
        # A batch size of 1 for every batch: the mean over steps, however full the batches are.
        self.log(
            "train/loss_epoch", loss, on_step=False, on_epoch=True, sync_dist=True, batch_size=1
        )
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Log `val/loss` and, with `generation`, `val/exact_match`.

        Args:
            batch: A batch of a layout.
            batch_idx: Number of the batch.
        """
        self._evaluate("val", self.val_exact_match, batch)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Log `test/loss` and, with `generation`, `test/exact_match`.

        Args:
            batch: A batch of a layout.
            batch_idx: Number of the batch.
        """
        self._evaluate("test", self.test_exact_match, batch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Build the default optimizer.

        Returns:
            AdamW over the trainable parameters with `learning_rate`.
        """
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        return torch.optim.AdamW(trained, lr=self.learning_rate)

    def _evaluate(self, split: str, exact_match: ExactMatch, batch: Batch) -> None:
        labels = batch["labels"]
        loss = answer_loss(self(batch), labels)
        tokens = num_answer_tokens(labels)
        self.log(f"{split}/loss", loss, on_epoch=True, sync_dist=True, batch_size=tokens)
        if self.generation is not None:
            self._solve(exact_match, batch, self.generation)
            self.log(f"{split}/exact_match", exact_match, on_epoch=True, batch_size=len(labels))

    def _solve(self, exact_match: ExactMatch, batch: Batch, generation: Generation) -> None:
        wanted = generation.examples - int(exact_match.total)
        pairs = split_documents(batch)[:wanted] if wanted > 0 else []
        if not pairs:
            return
        prompts, answers = (list(column) for column in zip(*pairs, strict=True))
        end = self._tokenizer.eos_token_id
        written = continue_greedily(self.network, prompts, generation.max_new_tokens, end)
        exact_match.update(self._texts(written), self._texts(answers))

    def _texts(self, rows: list[Tensor]) -> list[str]:
        texts: list[str] = self._tokenizer.batch_decode(
            [row.tolist() for row in rows], skip_special_tokens=True
        )
        return texts

    def _require_known_tokens(self) -> None:
        known = self.network.get_input_embeddings().num_embeddings
        if self._tokenizer is not None and len(self._tokenizer) > known:
            raise ValueError(
                f"Expected a tokenizer of at most {known} tokens, as the model has, got "
                f"{len(self._tokenizer)}: the model cannot read the others. Use the model's own "
                "tokenizer, or the same `vocab_size` in both."
            )

    def _require_generation(self) -> None:
        if self._tokenizer is None:
            raise RuntimeError(
                "Cannot generate answers: the data has no tokenizer to read them with. Give the "
                "trainer a data module with a `tokenizer`, such as GSM8KDataModule, or set "
                "`generation` to null."
            )
        if self.device_mesh is not None:
            raise RuntimeError(
                "Cannot generate answers with a sharded model: every process would have to write "
                "equally many tokens. Set `generation` to null, and test the checkpoint on one "
                "device."
            )
