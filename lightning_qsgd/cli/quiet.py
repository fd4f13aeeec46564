"""Keeps notices that a user of this command can do nothing about off the screen."""

import logging
import warnings


def hush() -> None:
    """Drop Lightning's advertisements and two warnings that every run of this command gives.

    `LeafSpec` is Lightning's own use of torch; that `--optimizer` overrides the module's default
    optimizer is what the option is for.
    """
    warnings.filterwarnings("ignore", message=r".*LeafSpec.*is deprecated")
    warnings.filterwarnings("ignore", message=r".*configure_optimizers` will be overridden by")
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(_is_no_tip)


def _is_no_tip(record: logging.LogRecord) -> bool:
    return "Tip: For seamless" not in record.getMessage()
