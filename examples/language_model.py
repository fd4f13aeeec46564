"""Fine-tune a small language model on word problems, perturbed, and let it solve one.

python examples/language_model.py FOLDER    # with train.jsonl and test.jsonl of GSM8K

Needs `pip install lightning-qsgd[llm]`. A model from the Hugging Face hub goes in the same way:
PretrainedModel("meta-llama/Llama-3.2-1B-Instruct") and PretrainedTokenizer of the same name.
"""

import sys

import lightning as L

from lightning_qsgd import AllEntries, Perturbation, PerturbationCallback, RelativeInjection
from lightning_qsgd.llm import (
    CausalLM,
    Generation,
    GSM8KDataModule,
    HeldOut,
    LinearSchedule,
    ModelFromConfig,
    Packed,
    TrainedTokenizer,
)

SIZES = {"vocab_size": 512, "hidden_size": 64, "intermediate_size": 176, "num_hidden_layers": 2}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": True}


def main(folder: str, max_steps: int = 100) -> CausalLM:
    """Train on a folder of problems and report loss, answers and the perturbation's size."""
    L.seed_everything(0, verbose=False)
    model = CausalLM(
        ModelFromConfig("llama", SIZES | HEADS),
        schedule=LinearSchedule(warmup_steps=10),
        generation=Generation(examples=2, max_new_tokens=48),
        learning_rate=3e-3,
    )
    data = GSM8KDataModule(folder, TrainedTokenizer(512), Packed(512), 4, HeldOut(8))
    callback = PerturbationCallback(
        Perturbation(coordinates=AllEntries(), injection=RelativeInjection(), strength=0.5)
    )
    trainer = L.Trainer(
        max_steps=max_steps,
        callbacks=[callback],
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
    )
    trainer.fit(model, datamodule=data)
    measured = trainer.callback_metrics
    print(f"validation loss: {measured['val/loss']:.3f} nats per answer token")
    print(f"right answers: {measured['val/exact_match']:.0%}")
    print(
        f"size of the perturbation: {callback.optimizers[0].report.relative_size:.3f} of the step"
    )
    return model


if __name__ == "__main__":
    main(sys.argv[1])
