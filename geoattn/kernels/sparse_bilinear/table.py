"""`BilinearTable`: the nonzero coefficients of a bilinear product."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from geoattn.errors import ShapeError
from geoattn.kernels.sparse_bilinear._slots import sort_for


class BilinearTable:
    r"""The nonzero coefficients of a product :math:`z_k = \sum_t v_t \, x_{i_t} \, y_{j_t}`, each on a path.

    A path is a set of coefficients with one weight per edge and channel. The table is never changed once made.

    Args:
        index_x: ``[T]`` integers below I, the component of x of each row of the table.
        index_y: ``[T]`` integers below J, that of y.
        index_out: ``[T]`` integers below K, that of the result.
        path: ``[T]`` integers below P, the path each row is on.
        value: ``[T]`` coefficients; kept in float64.
        sizes: (I, J, K, P).

    Raises:
        ShapeError: if the rows of the table do not agree in number, or an index is out of range.

    Example:
        >>> import torch
        >>> complex_numbers = torch.tensor([[[1.0, 0], [0, 1]], [[0, 1], [-1, 0]]])
        >>> BilinearTable.from_dense(complex_numbers)
        BilinearTable(4 coefficients, sizes=(2, 2, 2, 1))
    """

    def __init__(
        self,
        index_x: Tensor,
        index_y: Tensor,
        index_out: Tensor,
        path: Tensor,
        value: Tensor,
        sizes: tuple[int, int, int, int],
    ) -> None:
        indices = {"index_x": index_x, "index_y": index_y, "index_out": index_out, "path": path}
        for (name, index), size in zip(indices.items(), sizes, strict=True):
            if index.shape != value.shape or index.ndim != 1:
                raise ShapeError(name, f"shape {tuple(index.shape)}", f"[T] as value, {tuple(value.shape)}")
            if index.is_floating_point() or index.dtype == torch.bool:
                raise ShapeError(name, f"dtype {index.dtype}", "an integer dtype", "Call .long() on it.")
            if index.numel() and not (index.min() >= 0 and index.max() < size):
                raise ShapeError(name, f"values {index.min()} to {index.max()}", f"0 to {size - 1} as sizes says")
        self.index_x, self.index_y, self.index_out, self.path = (i.detach().cpu().long() for i in indices.values())
        self.value = value.detach().cpu().double()
        self.sizes = sizes
        self._make_plan()

    def _make_plan(self) -> None:
        """Sort the table for each slot: ``_plan`` holds the orders one after the other, ``_values [4, T]`` the values.

        ``layout`` is the number of components and then that of runs of x, y, weight and z.
        """
        size_x, size_y, size_out, paths = self.sizes
        indices = tuple(index.numpy() for index in (self.index_x, self.index_y, self.path, self.index_out))
        orders, values, runs, sizes = [], [], [], [size_x, size_y, paths, size_out]
        for slot, size in enumerate(sizes):
            permutation, order = sort_for(slot, indices, size)
            values.append(self.value.numpy()[permutation])
            runs.append(len(order[1]))
            orders += order
        self.layout = [*sizes, *runs]
        self._plan = torch.from_numpy(np.concatenate(orders).astype(np.int32))
        self._values = torch.from_numpy(np.stack(values))
        self._placed: dict[tuple[torch.device, torch.dtype], tuple[Tensor, Tensor]] = {}

    def plan(self, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Orders and values for the loops; values in float64 if ``dtype`` is, else in float32. Kept per device."""
        key = device, torch.promote_types(dtype, torch.float32)
        if key not in self._placed:
            self._placed[key] = self._plan.to(device), self._values.to(*key)
        return self._placed[key]

    @classmethod
    def from_dense(cls, tensor: Tensor, path: Tensor | None = None) -> BilinearTable:
        """The nonzero entries of ``tensor``, so that the product is ``einsum("ijk,ni,nj->nk", tensor, x, y)``.

        Args:
            tensor: ``[I, J, K]``, for example Clebsch-Gordan coefficients or the Cayley table of an algebra.
            path: ``[I, J, K]`` integers, the path of each entry; all on path 0 if not given. Those of zeros are not
                looked at, but the number of paths P is the largest of all plus 1.

        Raises:
            ShapeError: if ``tensor`` is not ``[I, J, K]`` or ``path`` has another shape.
        """
        if tensor.ndim != 3:
            raise ShapeError("tensor", f"shape {tuple(tensor.shape)}", "[I, J, K]")
        if path is None:
            path = torch.zeros(tensor.shape, dtype=torch.int64, device=tensor.device)
        if path.shape != tensor.shape:
            raise ShapeError("path", f"shape {tuple(path.shape)}", f"that of tensor, {tuple(tensor.shape)}")
        i, j, k = tensor.nonzero(as_tuple=True)
        num_paths = int(path.max()) + 1 if path.numel() else 1
        return cls(i, j, k, path[i, j, k], tensor[i, j, k], (*tensor.shape, num_paths))

    def __len__(self) -> int:
        return self.value.shape[0]

    def __repr__(self) -> str:
        return f"BilinearTable({len(self)} coefficients, sizes={tuple(self.sizes)})"
