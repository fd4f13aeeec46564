"""Keeps the states of the random generators in checkpoints, so that a resume is exact."""

import random
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn


class RandomStateCallback(Callback):
    """Saves and restores torch's, numpy's and Python's generators with each checkpoint.

    Lightning stores none of them, so that dropout after a resume differs from the uninterrupted
    run. With this callback and a data order that depends on (seed, epoch) alone, a run resumed at
    an epoch end equals the uninterrupted one bit for bit. The perturbation needs none of it: its
    random streams are named by seed and step.

    A checkpoint holds the generators of process 0; a run on several processes is not restored.

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

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the saved states until training starts."""
        self._saved = state_dict

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
