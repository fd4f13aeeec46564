"""What a resume needs: files that can be trusted, and what they must hold.

That is the state of the random generators, and the weights that were validated.
"""

import hashlib
import os
import random
import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_warn
from typing_extensions import override

from lightning_qsgd.atomic_file import replacing
from lightning_qsgd.training.wrapping import callbacks_of, has_modes, innermost

MARK = b"lightning-qsgd sha256 "
SEAL = len(MARK) + 64
"""Bytes that follow torch's own file: as the archive's comment, which every reader skips."""

PIECE = 2**20


class SafeCheckpointIO(TorchCheckpointIO):
    """Writes checkpoints that are complete or not there, and refuses damaged ones.

    A checkpoint is written to a temporary file in the same folder, flushed to the disk and moved to
    its name: a full disk or a killed process leaves what was there before. The file ends with a
    digest of itself, as the comment of the ZIP archive that torch writes, so that plain
    `torch.load` reads it as well. Files without a digest, and paths that are no local files, are
    left to Lightning.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     file = Path(folder) / "last.ckpt"
        ...     SafeCheckpointIO().save_checkpoint({"epoch": 3}, file)
        ...     SafeCheckpointIO().load_checkpoint(file)
        {'epoch': 3}
    """

    @override
    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Write a checkpoint.

        Raises:
            OSError: If it cannot be written; the file that was there is unchanged.
        """
        if _is_remote(path) or storage_options is not None:
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        try:
            with replacing(Path(path)) as file:
                torch.save(checkpoint, file)
                _seal(file)
        except (OSError, RuntimeError) as error:
            # torch wraps what the disk has said into an error about its own archive.
            cause = error if isinstance(error, OSError) else error.__context__
            if not isinstance(cause, OSError):
                raise
            raise OSError(
                cause.errno,
                f"Cannot write the checkpoint {path}: {cause.strerror}. What was there before is "
                "unchanged. Free some space or choose another folder, and resume from the last "
                "checkpoint.",
            ) from error

    @override
    def load_checkpoint(
        self,
        path: str | Path,
        map_location: Any = lambda storage, _: storage,
        weights_only: bool | None = None,
    ) -> dict[str, Any]:
        """Read a checkpoint, after its digest was compared.

        Raises:
            ValueError: If the file is damaged or not complete.
        """
        local = not _is_remote(path) and Path(path).is_file()
        sealed = local and _check(Path(path))
        options = {} if weights_only is None else {"weights_only": weights_only}
        try:
            checkpoint: dict[str, Any] = super().load_checkpoint(path, map_location, **options)
        except Exception as error:  # bytes that are no pickle end in errors of any kind
            if sealed or not local or zipfile.is_zipfile(path):
                raise  # what is in it is whole: torch says what it does not like
            raise _damaged(path, "it is no checkpoint, or not complete") from error
        return checkpoint


def install_safe_checkpoints(trainer: Trainer) -> None:
    """Let a trainer write safe checkpoint files, unless it was given its own way of writing."""
    if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
        trainer.strategy.checkpoint_io = SafeCheckpointIO()


class CheckpointsElsewhere(Callback):
    """Moves the folders that callbacks write checkpoints to below another one.

    A callback with a `dirpath` of its own writes there in every run of an experiment: runs at a
    time would overwrite and load each other's checkpoints, and a baseline that is trained first
    would take the arm's names.

    Args:
        folder: Where checkpoints go instead; each `dirpath` has a folder of its own in it.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    @override
    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Move them before they look at their folders, those of the module's own callbacks too."""
        callbacks = callbacks_of(trainer)
        given = [_own_folder(callback) for callback in callbacks]
        places = [place for place in dict.fromkeys(given) if place]
        for callback, place in zip(callbacks, given, strict=True):
            if place and not Path(place).is_relative_to(self.folder):
                own = self.folder / "checkpoints" / str(places.index(place))
                callback.dirpath = str(own)  # type: ignore[attr-defined]


def _own_folder(callback: Callback) -> str | Path | None:
    own = vars(callback).get("dirpath") if isinstance(callback, Checkpoint) else None
    return own if isinstance(own, str | Path) else None


def _seal(file: IO[bytes]) -> None:
    """Append the digest of a ZIP archive as its comment, whose length its last two bytes tell."""
    file.flush()
    size = file.seek(0, os.SEEK_END)
    digest = _digest(file, size)
    file.seek(size - 2)
    file.write(SEAL.to_bytes(2, "little") + MARK + digest)


def _check(path: Path) -> bool:
    """Compare a file with its digest.

    Returns:
        Whether there is one.

    Raises:
        ValueError: If they differ.
    """
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END) - SEAL
        if size <= 0:
            return False
        file.seek(size)
        seal = file.read()
        if not seal.startswith(MARK):
            return False
        if _digest(file, size) != seal[len(MARK) :]:
            raise _damaged(path, "its content does not fit its digest")
    return True


def _digest(file: IO[bytes], size: int) -> bytes:
    """Hash an archive as it is without a comment, that is with 0 in its last two bytes."""
    digest, left = hashlib.sha256(), size - 2
    file.seek(0)
    while left > 0:
        piece = file.read(min(PIECE, left))
        if not piece:
            break
        digest.update(piece)
        left -= len(piece)
    digest.update(bytes(2))
    return digest.hexdigest().encode()


def _is_remote(path: str | Path) -> bool:
    return "://" in str(path)


def _damaged(path: str | Path, what: str) -> ValueError:
    return ValueError(
        f"Cannot read the checkpoint {path}: {what}; it holds {Path(path).stat().st_size} bytes. "
        "It was damaged after it was written, or copied in part. Resume from an earlier checkpoint."
    )


class RandomStateCallback(Callback):
    """Saves and restores torch's, numpy's and Python's generators with each checkpoint.

    Lightning stores none of them, so that dropout after a resume differs from the uninterrupted
    run. With this callback and a `ResumableLoader` whose order depends on (seed, epoch), a run that
    is resumed at any step equals the uninterrupted one bit for bit; with a plain loader, at an
    epoch end. The perturbation needs none of it: its random streams are named by seed and step.

    A checkpoint holds the generators of process 0; a run on several processes is not restored.
    One that was written within a batch, as after an exception, gives a warning when it is loaded.

    Example:
        >>> callback = RandomStateCallback()
        >>> saved = callback.state_dict()
        >>> drawn = torch.rand(1)
        >>> callback.load_state_dict(saved)
        >>> callback.restore()
        >>> bool(torch.rand(1) == drawn)
        True
    """

    def __init__(self) -> None:
        self._saved: dict[str, Any] | None = None

    @override
    def state_dict(self) -> dict[str, Any]:
        """Return the states as tensors and plain numbers, safe for ``weights_only=True``."""
        name, keys, *rest = np.random.get_state()  # noqa: NPY002 - the global generator is meant
        version, internal, gauss = random.getstate()
        return {
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
            "numpy": [name, torch.from_numpy(np.asarray(keys, dtype=np.int64)), *rest],
            "python": [version, list(internal), gauss],
        }

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the saved states until training starts."""
        self._saved = state_dict

    @override
    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Warn where the checkpoint was written within a batch: that one is not trained again."""
        loops = checkpoint.get("loops", {}).get("fit_loop", {})
        progress = loops.get("epoch_loop.batch_progress", {}).get("current", {})
        if progress.get("ready", 0) > progress.get("processed", 0):
            rank_zero_warn(
                f"This checkpoint was written within batch {progress['processed']} of its epoch, "
                "as after an exception: loaders have served that batch, so it is not trained "
                "again, and the run differs from one that was never stopped. Resume from a "
                "checkpoint of a finished step, as ModelCheckpoint(every_n_train_steps=...) "
                "writes, for equal bits."
            )

    @override
    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Forget what was loaded: it belongs to this fit and to no later one."""
        self._saved = None

    @override
    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Forget what was loaded: after an exception Lightning skips `teardown`."""
        self._saved = None

    @override
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restore the generators after the sanity check, which draws from them."""
        if self._saved is not None and trainer.world_size > 1:
            rank_zero_warn(
                "The random generators of this checkpoint belong to process 0 and are not "
                "restored on several processes: dropout will differ from the uninterrupted run."
            )
            self._saved = None
        self.restore()

    def restore(self) -> None:
        """Set the generators to the states that were loaded, if any, once."""
        saved, self._saved = self._saved, None
        if saved is None:
            return
        torch.set_rng_state(saved["torch"].cpu())
        if saved["cuda"] and len(saved["cuda"]) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all([state.cpu() for state in saved["cuda"]])
        name, keys, *rest = saved["numpy"]
        np.random.set_state((name, keys.cpu().numpy().astype(np.uint32), *rest))  # noqa: NPY002
        version, internal, gauss = saved["python"]
        random.setstate((version, tuple(internal), gauss))


class OptimizerModesCallback(Callback):
    """Puts optimizers that have `train()` and `eval()` into the mode that training is in.

    Schedule-free optimizers take gradients at other weights than those that are good: validation
    and checkpoints need the latter, the next step the former. So the weights of training come back
    when the next batch begins, not before, and every checkpoint holds those that are validated; a
    checkpoint that is saved within a batch, such as in `training_step`, holds those of training.

    A resumed run goes on from the same bits: both continue from what `train()` makes of the weights
    in the file. This rounds, so a run that saved at a step differs in the last bits from one that
    did not. Optimizers without modes are left alone.

    Example:
        >>> OptimizerModesCallback().on_train_start(Trainer(logger=False), LightningModule())

    References:
        A. Defazio et al., "The Road Less Scheduled", NeurIPS 2024, arXiv:2405.15682.
    """

    _rests = False
    """Whether the weights are those that are good, so that training must begin by switching."""
    _is_within_batch = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the weights of training, also after a checkpoint was loaded."""
        self._is_within_batch = False
        self._train(trainer)
        if any(map(has_modes, trainer.optimizers)):
            self._switch_before_saving(trainer)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the weights of training again."""
        self._train(trainer)

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Take the weights of training again, after a validation or a checkpoint."""
        self._is_within_batch = True
        if self._rests:
            self._train(trainer)

    def on_train_batch_end(self, *args: Any) -> None:
        """Allow checkpoints to hold the weights that are good."""
        self._is_within_batch = False

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Allow the same after a batch that was left early."""
        self._is_within_batch = False

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the weights that are good, within a fit: elsewhere it has left or loaded them."""
        self._is_within_batch = False
        if trainer.state.fn == TrainerFn.FITTING:
            self._rest(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the weights that are good behind: an average of weights, where one is kept."""
        if not any(map(_averages_weights, callbacks_of(trainer))):
            self._rest(trainer)

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Leave the weights that are good behind, for a checkpoint of what was reached, too."""
        self._is_within_batch = False
        self._rest(trainer)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Give the strategy its method back."""
        vars(trainer.strategy).pop(_STATE_OF_WEIGHTS, None)

    def _train(self, trainer: Trainer) -> None:
        _switch(trainer, "train")
        self._rests = False

    def _rest(self, trainer: Trainer) -> None:
        _switch(trainer, "eval")
        self._rests = True

    def _switch_before_saving(self, trainer: Trainer) -> None:
        """Take the weights that are good before any checkpoint reads weights.

        The trainer asks its strategy for them first and calls no hook before, and none at all for
        a checkpoint of weights only.
        """
        strategy = trainer.strategy
        plain = type(strategy).lightning_module_state_dict

        def after_switching() -> dict[str, Any]:
            if not self._is_within_batch and self in callbacks_of(trainer):
                self._rest(trainer)
            return plain(strategy)

        setattr(strategy, _STATE_OF_WEIGHTS, after_switching)


_STATE_OF_WEIGHTS = "lightning_module_state_dict"


def _averages_weights(callback: Callback) -> bool:
    """Whether a callback is one of Lightning's that leave an average; older versions lack them."""
    return any(kind.__name__ == "WeightAveraging" for kind in type(callback).__mro__)


def _switch(trainer: Trainer, mode: str) -> None:
    for optimizer in trainer.optimizers:
        change = getattr(innermost(optimizer), mode, None)
        if callable(change):
            change()
