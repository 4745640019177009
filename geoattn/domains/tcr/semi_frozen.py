"""Fine-tuning of a trained model: freeze what was declared first, or start from another model's encoders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from geoattn.errors import InputError

PARTS = ("head", "receptor", "ligand")


def tune_last(model: nn.Module, num_tensors: int, order: Sequence[str] = PARTS) -> int:
    """Leave the last parameter tensors of a model trainable and freeze the others.

    Tensors are counted from the end: part by part in ``order``, and within a part those declared last come first. TITAN
    was released with 68 of 97: the head (16), the receptor's side (40), and the last 12 of the ligand's 41 tensors,
    which belong to the attention of its last two scales.

    Freezing stops gradients, nothing more, as published. In training mode the batch norms of frozen parts still use
    the batch's statistics and go on adding them to their running ones, so a frozen part adapts to the new data in that
    one respect; put its modules in evaluation mode in every epoch (``module.eval()``) if it must not.

    Args:
        model: with a submodule for each part.
        num_tensors: how many stay trainable.
        order: names of the parts, the one to tune first in front.

    Returns:
        The number of trainable weights.

    Raises:
        InputError: a number that the model does not have, or parts that leave tensors out.
    """
    tensors = [tensor for part in order for tensor in reversed(list(model.get_submodule(part).parameters()))]
    total = sum(1 for _ in model.parameters())
    if len(tensors) != total:
        raise InputError(f"order: {', '.join(order)} have {len(tensors)} parameter tensors, the model has {total}.")
    if not 0 < num_tensors <= total:
        raise InputError(f"num_tensors: got {num_tensors}, expected 1 to {total}, the model's parameter tensors.")
    for place, tensor in enumerate(tensors):
        tensor.requires_grad_(place < num_tensors)
    return sum(tensor.numel() for tensor in tensors[:num_tensors])


def load_encoder(model: nn.Module, state: Mapping[str, Tensor], parts: Sequence[str] = ("ligand", "receptor")) -> None:
    """Copy the weights of some parts from the state of another trained model, batch statistics included.

    Everything of these parts has to be there under the same name and in the same shape; nothing is copied otherwise.

    Args:
        model: changed in place; its other parts stay as they are.
        state: the other model's ``state_dict``.
        parts: names of submodules.

    Raises:
        InputError: names that are missing, unknown or have another shape, all of them listed.
    """
    wrong = []
    for part in parts:
        own = model.get_submodule(part).state_dict(prefix=f"{part}.")
        given = {name for name in state if name.startswith(f"{part}.")}
        wrong += [f"{name} is missing" for name in own if name not in given]
        wrong += [f"{name} is not in the model" for name in sorted(given - own.keys())]
        wrong += [
            f"{name} is {tuple(state[name].shape)}, the model's is {tuple(tensor.shape)}"
            for name, tensor in own.items()
            if name in given and state[name].shape != tensor.shape
        ]
    if wrong:
        hint = "Build the model with the same options and vocabulary as the one that was trained."
        raise InputError(f"encoder: {len(wrong)} tensors do not fit: " + "; ".join(wrong) + f". {hint}")
    for part in parts:
        prefix = f"{part}."
        model.get_submodule(part).load_state_dict(
            {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
        )
