"""Language models: fine-tuning over Hugging Face transformers (extra ``llm``)."""

from lightning_qsgd.llm.answers import ExactMatch, Generation
from lightning_qsgd.llm.causal_lm import CausalLM
from lightning_qsgd.llm.gsm8k import GSM8KDataModule, HeldOut
from lightning_qsgd.llm.layouts import Layout, Packed, Padded
from lightning_qsgd.llm.model_changes import GradientCheckpointing, LoRA, ModelChange
from lightning_qsgd.llm.model_sources import ModelFromConfig, ModelSource, PretrainedModel
from lightning_qsgd.llm.schedule import LinearSchedule
from lightning_qsgd.llm.tokenizer_sources import (
    PretrainedTokenizer,
    TokenizerSource,
    TrainedTokenizer,
)

__all__ = [
    "CausalLM",
    "ExactMatch",
    "GSM8KDataModule",
    "Generation",
    "GradientCheckpointing",
    "HeldOut",
    "Layout",
    "LinearSchedule",
    "LoRA",
    "ModelChange",
    "ModelFromConfig",
    "ModelSource",
    "Packed",
    "Padded",
    "PretrainedModel",
    "PretrainedTokenizer",
    "TokenizerSource",
    "TrainedTokenizer",
]
