"""Turn a word problem into the text that is read and the text that is to be written."""

from typing import Any

from lightning_qsgd.llm.problems import Problem

DATE = "26 Jul 2024"
"""Llama's template puts today's date into every prompt unless it is given one."""


def prompt_and_answer(tokenizer: Any, problem: Problem) -> tuple[str, str]:
    r"""Lay a problem out as the tokenizer's chat template says, or plainly where it has none.

    Args:
        tokenizer: A tokenizer of transformers with an end token.
        problem: The problem.

    Returns:
        What the model reads, and what it is to write after it, the end token included.

    Raises:
        ValueError: If the template changes its opening when the answer is known, so that it cannot
            be said where the answer begins.

    Example:
        >>> from types import SimpleNamespace
        >>> plain = SimpleNamespace(chat_template=None, eos_token="<end>")
        >>> prompt_and_answer(plain, Problem("1 + 1?", "#### 2"))
        ('Question: 1 + 1?\nAnswer:', ' #### 2<end>')
    """
    if tokenizer.chat_template is None:
        return f"Question: {problem.question}\nAnswer:", f" {problem.answer}{tokenizer.eos_token}"
    asked = [{"role": "user", "content": problem.question}]
    answered = [*asked, {"role": "assistant", "content": problem.answer}]
    options: dict[str, Any] = {"tokenize": False, "date_string": DATE}
    prompt: str = tokenizer.apply_chat_template(asked, add_generation_prompt=True, **options)
    whole: str = tokenizer.apply_chat_template(answered, **options)
    if not whole.startswith(prompt):
        raise ValueError(
            "Expected a chat template whose prompt is the beginning of the whole dialogue, got "
            f"{prompt[-40:]!r} and {whole[: len(prompt)][-40:]!r}: it cannot be said which tokens "
            "are the answer. Use another template, or set the tokenizer's `chat_template` to None."
        )
    return prompt, whole[len(prompt) :]
