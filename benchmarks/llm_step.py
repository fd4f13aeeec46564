"""What the perturbation costs in the training step of a 1 B-parameter language model.

    python -m benchmarks.llm_step                            # Llama-3.2-1B's shape, an NVIDIA GPU
    python -m benchmarks.llm_step --hidden 64 --layers 2 --heads 4 --kv-heads 2 --ff 128 \
        --vocab 512 --context 64 --steps 4 --device cpu      # the same code on a CPU

Random weights, random tokens, batch 1, bfloat16 autocast, fused AdamW. Times: all contestants step
one model in turn, and share one AdamW, so that each meets the same caches; the two wrappers only
add to it. On a GPU CUDA events are read after the last step, and nothing waits in between; on a
CPU it is process time. Memory: each contestant alone, on a model of its own, the most that torch
had allocated over three steps. Writes benchmarks/results/llm_step.json.
"""

import argparse
import gc
import json
import platform
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
import transformers
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from lightning_qsgd import CompiledBackend, Perturbation, PerturbedOptimizer, SineBackend
from lightning_qsgd.llm.loss import answer_loss

RESULTS = Path(__file__).parent / "results" / "llm_step.json"
BARE = "AdamW"
PERTURBED = {
    "sine, first 4 of each tensor": Perturbation(SineBackend(), strength=0.5),
    "circuit, first 4 of each tensor": Perturbation(CompiledBackend(), strength=0.5),
}
TIME_LIMIT, MEMORY_LIMIT = 1.02, 1.01
"""What the sine may cost at most, relative to the bare step."""

MEMORY_STEPS = 3
WARM_UP_STEPS = 3


@dataclass(frozen=True)
class Setting:
    """The model's shape and the length of the measurement; the defaults are Llama-3.2-1B's."""

    hidden: int = 2048
    layers: int = 16
    heads: int = 32
    kv_heads: int = 8
    ff: int = 8192
    vocab: int = 128256
    context: int = 2048
    steps: int = 50
    device: str = "cuda"


def build(setting: Setting) -> nn.Module:
    """Build the model with random weights on its device, in float32."""
    config = transformers.LlamaConfig(
        vocab_size=setting.vocab,
        hidden_size=setting.hidden,
        intermediate_size=setting.ff,
        num_hidden_layers=setting.layers,
        num_attention_heads=setting.heads,
        num_key_value_heads=setting.kv_heads,
        max_position_embeddings=setting.context,
        tie_word_embeddings=True,
        attn_implementation="sdpa",
    )
    torch.manual_seed(0)
    with torch.device(setting.device):
        model: nn.Module = transformers.LlamaForCausalLM(config)
    return model.train()


def wrapped(name: str, base: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """The contestant of that name around an AdamW."""
    return base if name == BARE else PerturbedOptimizer(base, PERTURBED[name])


class Clock:
    """Marks points in time on a device; they are read afterwards."""

    def __init__(self, device: str) -> None:
        self.on_gpu = device.startswith("cuda")

    def mark(self) -> Any:
        """Return a mark: an event in the GPU's queue, or seconds of process time."""
        if not self.on_gpu:
            return time.process_time()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def milliseconds(self, first: Any, last: Any) -> float:
        """Return the time between two marks, once the device has passed both."""
        if not self.on_gpu:
            return 1e3 * float(last - first)
        torch.cuda.synchronize()
        return float(first.elapsed_time(last))


def stepper(setting: Setting, model: nn.Module) -> Callable[[torch.optim.Optimizer], list[Any]]:
    """Return what makes one step, and marks its start, the start of `step()` and its end."""
    clock = Clock(setting.device)
    generator = torch.Generator().manual_seed(0)

    def step(optimizer: torch.optim.Optimizer) -> list[Any]:
        shape = (1, setting.context)
        tokens = torch.randint(setting.vocab, shape, generator=generator).to(setting.device)
        marks = [clock.mark()]
        with torch.autocast(setting.device.split(":")[0], torch.bfloat16):
            logits: Tensor = model(tokens, use_cache=False).logits
        answer_loss(logits, tokens).backward()
        del logits
        marks.append(clock.mark())
        optimizer.step()
        marks.append(clock.mark())
        optimizer.zero_grad()
        return marks

    return step


def adamw(model: nn.Module) -> torch.optim.Optimizer:
    """The optimizer of Table III of the paper."""
    return torch.optim.AdamW(model.parameters(), lr=2e-5, weight_decay=0.01, fused=True)


def measure_times(setting: Setting) -> dict[str, dict[str, float]]:
    """Return medians over the steps, in milliseconds, and their ratios to the bare ones."""
    model = build(setting)
    base, step, clock = adamw(model), stepper(setting, model), Clock(setting.device)
    contestants = {name: wrapped(name, base) for name in (BARE, *PERTURBED)}
    for optimizer in [*contestants.values()] * WARM_UP_STEPS:
        step(optimizer)
    marks: dict[str, list[list[Any]]] = {name: [] for name in contestants}
    for _ in range(setting.steps):
        for name, optimizer in contestants.items():
            marks[name].append(step(optimizer))
    parameters = sum(parameter.numel() for parameter in model.parameters())
    results: dict[str, dict[str, float]] = {}
    for name, own in marks.items():
        whole = [clock.milliseconds(first, last) for first, _, last in own]
        inner = [clock.milliseconds(second, last) for _, second, last in own]
        results[name] = {"step_ms": median(whole), "optimizer_ms": median(inner)}
        results[name] |= {"parameters": parameters, "tensors": len(list(model.parameters()))}
    for own_result in results.values():
        for key in ("step_ms", "optimizer_ms"):
            own_result[f"{key}_ratio"] = own_result[key] / results[BARE][key]
    return results


def measure_memory(setting: Setting, name: str) -> float | None:
    """Return the most that torch had allocated on the GPU in GB; None on a CPU."""
    if not setting.device.startswith("cuda"):
        return None
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    model = build(setting)
    optimizer, step = wrapped(name, adamw(model)), stepper(setting, model)
    for _ in range(MEMORY_STEPS):
        step(optimizer)
    return torch.cuda.max_memory_allocated() / 1e9


def measure(setting: Setting) -> dict[str, dict[str, Any]]:
    """Measure times and memory of every contestant."""
    results: dict[str, dict[str, Any]] = dict(measure_times(setting))
    for name, own in results.items():
        own["memory_gb"] = measure_memory(setting, name)
        bare = results[BARE]["memory_gb"]
        own["memory_ratio"] = None if bare is None else own["memory_gb"] / bare
    return results


def table(results: dict[str, dict[str, Any]]) -> Table:
    """Lay the results out."""
    millions = results[BARE]["parameters"] / 1e6
    shown = Table(title=f"One step, {millions:,.1f} M parameters, batch 1, bfloat16 autocast")
    for column in ("optimizer", "step ms", "ratio", "step() ms", "ratio", "memory GB", "ratio"):
        shown.add_column(column, justify="left" if column == "optimizer" else "right")
    for name, own in results.items():
        memory = ("-", "-")
        if own["memory_gb"] is not None:
            memory = (f"{own['memory_gb']:.3f}", f"{own['memory_ratio']:.4f}")
        step = (f"{own['step_ms']:.2f}", f"{own['step_ms_ratio']:.4f}")
        inner = (f"{own['optimizer_ms']:.2f}", f"{own['optimizer_ms_ratio']:.3f}")
        shown.add_row(name, *step, *inner, *memory)
    return shown


def read_setting(arguments: list[str] | None = None) -> tuple[Setting, Path]:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in asdict(Setting()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default)
    parser.add_argument("--output", type=Path, default=RESULTS)
    values = vars(parser.parse_args(arguments))
    output = values.pop("output")
    return Setting(**values), output


def main(arguments: list[str] | None = None) -> None:
    """Measure, print the table beside the limits, and write the JSON."""
    warnings.simplefilter("ignore")  # the perturbation is as small as the paper's; it says so
    setting, output = read_setting(arguments)
    results = measure(setting)
    console = Console()
    console.print(table(results))
    sine = results[next(iter(PERTURBED))]
    console.print(
        f"Sine over bare: training step {sine['step_ms_ratio']:.4f}, optimizer.step() alone "
        f"{sine['optimizer_ms_ratio']:.4f} (limit {TIME_LIMIT:g})"
    )
    if sine["memory_ratio"] is not None:
        console.print(f"Sine over bare: memory {sine['memory_ratio']:.4f} (limit {MEMORY_LIMIT:g})")
    on_gpu = setting.device.startswith("cuda")
    machine = {
        "device": torch.cuda.get_device_name() if on_gpu else platform.processor(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    output.parent.mkdir(exist_ok=True)
    whole = {"machine": machine, "setting": asdict(setting), "results": results}
    output.write_text(json.dumps(whole, indent=2) + "\n")


if __name__ == "__main__":
    main()
