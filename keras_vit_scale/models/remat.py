"""Rematerialisation: which of a block's values are kept for the backward pass.

None keeps what the backend's differentiation asks for. The others keep a block's input and
compute again what they did not save, which costs up to one more forward pass; "auto", the
default, is the fastest way known for the backend.

On JAX, keeping all is not the fastest: a scan writes what it keeps into stacks and reads it from
there, which takes longer than computing attention's scores, norms and GELUs again. S/16, batch 8,
forward and backward, on two CPU cores took 3.6 s of CPU time with all kept, 2.8 s with "auto" and
3.1 s with nothing kept but the blocks' inputs (medians of 5 to 8 alternating steps).
TensorFlow's "full" took 1.2 times as long as keeping all. On accelerators it is not measured.
"""

from collections.abc import Callable
from typing import Any

import keras

#: Policies of `jax.checkpoint_policies` that take no argument.
JAX_POLICIES = (
    "everything_saveable",
    "nothing_saveable",
    "dots_saveable",
    "dots_with_no_batch_dims_saveable",
)

#: What "auto" means: on JAX the products of tokens and weights are kept, attention's are not.
AUTO = {"jax": "dots_with_no_batch_dims_saveable"}

#: What each backend can do. TensorFlow's `recompute_grad` saves nothing but the input.
REMATS = {
    "jax": ("auto", None, "full", "dots", *JAX_POLICIES),
    "tensorflow": ("auto", None, "full"),
    "torch": ("auto", None, "full", "dots"),
}


def check_remat(remat: str | None) -> None:
    """Refuses a way of rematerialisation that the backend does not have.

    Raises:
        ValueError: If it has it not; the message says what it has.
    """
    backend = keras.backend.backend()
    options = REMATS.get(backend, ("auto", None))
    if remat not in options:
        raise ValueError(
            f"`remat` must be one of {options} on the {backend} backend. "
            f"Received: remat={remat!r}. It changes no weights: those of a model built with "
            "another load into this one."
        )


def rematerialised(f: Callable[..., Any], remat: str | None, scanned: bool) -> Callable[..., Any]:
    """A function of tensors that keeps for its backward pass only what `remat` says.

    Args:
        f: The function; what it closes over is kept.
        remat: "auto", `None`, "full" (keep the arguments), "dots" (keep matrix
            products too) or, on JAX, a policy's name.
        scanned: Whether `f` is a scan's body, whose boundary already keeps the
            compiler from undoing the work.
    """
    backend = keras.backend.backend()
    if remat == "auto":
        remat = AUTO.get(backend)
    if remat is None:
        return f
    if backend == "jax":
        import jax

        name = {"full": "nothing_saveable", "dots": "dots_saveable"}.get(remat, remat)
        policy = getattr(jax.checkpoint_policies, name)
        return jax.checkpoint(f, policy=policy, prevent_cse=not scanned)
    if backend == "torch":
        return _torch_checkpoint(f, remat)
    return keras.remat(f)


def _torch_checkpoint(f, remat):
    """Randomness comes from seeds that are arguments, so there is no state to preserve."""
    from torch.utils import checkpoint

    options: dict[str, Any] = {"use_reentrant": False, "preserve_rng_state": False}
    if remat == "dots":
        options["context_fn"] = lambda: checkpoint.create_selective_checkpoint_contexts(
            _save_products
        )
    return lambda *arguments: checkpoint.checkpoint(f, *arguments, **options)


def _save_products(context, operation, *arguments, **options):
    """Saves the results of matrix products and of fused attention, which ends with one."""
    from torch.utils.checkpoint import CheckpointPolicy

    name = operation.name()
    product = name in ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm")
    if product or name.startswith("aten::_scaled_dot_product"):
        return CheckpointPolicy.MUST_SAVE
    return CheckpointPolicy.PREFER_RECOMPUTE
