"""Language models: fine-tuning over Hugging Face transformers (extra ``llm``)."""

from lightning_qsgd.llm.causal_lm import CausalLM
from lightning_qsgd.llm.exact_match import ExactMatch
from lightning_qsgd.llm.generation import Generation
from lightning_qsgd.llm.gradient_checkpointing import GradientCheckpointing
from lightning_qsgd.llm.gsm8k import GSM8KDataModule, HeldOut
from lightning_qsgd.llm.layouts import Layout, Packed, Padded
from lightning_qsgd.llm.lora import LoRA
from lightning_qsgd.llm.model_change import ModelChange
from lightning_qsgd.llm.model_from_config import ModelFromConfig
from lightning_qsgd.llm.model_source import ModelSource
from lightning_qsgd.llm.pretrained_model import PretrainedModel
from lightning_qsgd.llm.pretrained_tokenizer import PretrainedTokenizer
from lightning_qsgd.llm.schedule import LinearSchedule
from lightning_qsgd.llm.tokenizer_source import TokenizerSource
from lightning_qsgd.llm.trained_tokenizer import TrainedTokenizer

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
