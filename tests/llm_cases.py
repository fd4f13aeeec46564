"""What the tests of language models share: a small Llama, a tokenizer, problems."""

from pathlib import Path
from typing import Any

from lightning_qsgd.llm import CausalLM, GSM8KDataModule, HeldOut, ModelFromConfig, TrainedTokenizer
from lightning_qsgd.llm.problems import Problem, read_problems

PROBLEMS = Path(__file__).parent / "texts" / "word_problems"
VOCAB_SIZE = 300
SIZES: dict[str, Any] = {
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 512,
    "tie_word_embeddings": True,
    "bos_token_id": None,
    "eos_token_id": 1,
}
TINY = ModelFromConfig("llama", SIZES)
TOKENIZER = TrainedTokenizer(VOCAB_SIZE)

CHAT_TEMPLATE = (
    "{% for message in messages %}<{{ message.role }}>{{ message.content }}{{ eos_token }}"
    "{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)


def problems() -> list[Problem]:
    return read_problems(str(PROBLEMS)).train


def tokenizer() -> Any:
    return TOKENIZER.build([text for problem in problems() for text in problem])


def data(**kwargs: Any) -> GSM8KDataModule:
    """Thirty problems to train on, of which eight are held out."""
    settings = {"tokenizer": TOKENIZER, "held_out": HeldOut(8), "batch_size": 2}
    return GSM8KDataModule(str(PROBLEMS), **(settings | kwargs))


def language_model(**kwargs: Any) -> CausalLM:
    return CausalLM(TINY, **kwargs)
