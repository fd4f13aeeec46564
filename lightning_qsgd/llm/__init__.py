"""Language models: fine-tuning over Hugging Face transformers (extra ``llm``)."""
