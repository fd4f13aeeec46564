"""A circuit as a batched, exact state vector in torch, with a hand-written adjoint."""

from lightning_qsgd.backends.compiled.angles import CannotCompile
from lightning_qsgd.backends.compiled.compiled_circuit import CompiledCircuit

__all__ = ["CannotCompile", "CompiledCircuit"]
