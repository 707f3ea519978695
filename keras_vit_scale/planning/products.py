"""Floating-point operations of a traced computation: its matrix products, loops and all."""

from math import prod
from typing import Any


def product_flops(jaxpr: Any) -> int:
    """FLOPs of the matrix products of a JAX program: one multiply-add counts as two.

    What a scan does counts as often as it does it, where the compiler's own
    analysis counts it once. What is computed again for the backward pass counts too.

    Args:
        jaxpr: A `Jaxpr`, such as that of `jax.jit(f).trace(...)`.

    Raises:
        ValueError: If there are products in a loop whose length is not known.
    """
    total = 0
    for equation in jaxpr.eqns:
        name = equation.primitive.name
        if name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            shape = equation.invars[0].aval.shape
            total += 2 * equation.outvars[0].aval.size * prod(shape[axis] for axis in contracted)
            continue
        inner = [product_flops(each) for each in _inner(equation.params)]
        if name == "while" and any(inner):
            raise ValueError("A loop of unknown length holds matrix products: they have no number.")
        # Of the branches of a condition, the dearest.
        flops = max(inner, default=0) if name == "cond" else sum(inner)
        total += flops * equation.params.get("length", 1)
    return total


def _inner(params):
    """The programs within one operation."""
    for value in params.values():
        for each in value if isinstance(value, tuple | list) else (value,):
            if hasattr(each, "eqns"):
                yield each
            elif hasattr(each, "jaxpr"):
                yield each.jaxpr
