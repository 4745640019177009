"""Potentials: the energy of atoms in space by a network, with forces and stress as its exact derivatives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Self

import torch
from torch import Tensor, nn

from geoattn.domains.molecules.elements import NUM_ELEMENTS
from geoattn.domains.molecules.structures import StructureBatch
from geoattn.errors import InputError


class Potential(nn.Module):
    r"""Energy of structures as a sum over atoms, and its derivatives.

    .. math::
        E = \sum_i \big( \epsilon_{z_i} + s\, f(h_i) \big), \qquad F_i = -\frac{\partial E}{\partial x_i}, \qquad
        \sigma = \frac{1}{V} \frac{\partial E}{\partial \eta}

    where :math:`h_i` are the invariant features of a backbone, :math:`f` two linear maps with a SiLU between them,
    :math:`\epsilon_z` the reference energy of an element and :math:`s` the scale of the forces. Under the strain
    :math:`\eta` positions and lattice vectors go to :math:`(1 + \eta)\, x`. The network sees nothing of the absolute
    energies, which are thousands of electronvolts: they are added in float64, and ``Potential.to(torch.float32)``
    leaves the references as they are.

    Args:
        backbone: ``backbone(species [N], pos [N, 3], nbr, shift [E, 3] | None)`` gives ``[N, C]``, or ``[N, S, C]``
            whose first component of the middle axis is invariant.
        channels: C.
        elements: atomic numbers that it knows; species are positions in this list.
        references: atomic number (a number, or as text) -> energy of one atom, eV; 0 for an element that is not named.
        scale: :math:`s`, eV: the root mean square of the force components in eV/angstrom makes the network's own forces
            of order one.
        cutoff: angstrom; the batch's edges must hold all pairs within it.

    Shapes: forward takes a `StructureBatch` and returns a dictionary: ``energy [B]`` (float64, eV), ``forces [N, 3]``
    (eV/angstrom) and, on request, ``stress [B, 3, 3]`` (eV/cubic angstrom, symmetric, positive under tension; NaN for
    a structure that does not repeat along all three lattice vectors).

    Symmetry: that of the backbone: energy invariant, forces equivariant, under rotations, translations and
    permutations of atoms. Forces sum to zero.

    Edge cases: an atom without neighbours has an energy of its own and no force; an empty batch gives empty tensors.

    Cost: forces cost about two evaluations of the energy; training on forces about six.
    """

    config: dict[str, Any]
    species_of: Tensor
    references: Tensor

    def __init__(
        self,
        backbone: nn.Module,
        channels: int,
        elements: list[int],
        references: Mapping[int, float] | Mapping[str, float] | None = None,
        scale: float = 1.0,
        cutoff: float = 5.0,
    ) -> None:
        super().__init__()
        self.elements, self.scale, self.cutoff = list(elements), float(scale), float(cutoff)
        energies = by_element(references)
        self._references = [energies.get(z, 0.0) for z in self.elements]
        species_of = torch.full((NUM_ELEMENTS,), -1, dtype=torch.long)
        species_of[torch.tensor(self.elements, dtype=torch.long)] = torch.arange(len(self.elements))
        self.register_buffer("species_of", species_of, persistent=False)
        self.register_buffer("references", torch.tensor(self._references, dtype=torch.float64), persistent=False)
        self.backbone = backbone
        self.readout = nn.Sequential(nn.Linear(channels, channels), nn.SiLU(), nn.Linear(channels, 1))

    def forward(self, batch: StructureBatch, forces: bool = True, stress: bool = False) -> dict[str, Tensor]:
        """Energies and what is asked for; in training mode the derivatives can be differentiated again.

        Args:
            batch: structures with their edges.
            forces, stress: whether to compute them. Gradients are enabled for that, also under ``torch.no_grad``.

        Raises:
            InputError: an element that the model does not know.
        """
        species = self._species(batch.z)
        if not (forces or stress):
            return {"energy": self._energy(species, batch.pos, batch.cell, batch)}
        with torch.enable_grad():
            pos = batch.pos.detach().requires_grad_(forces)
            moved, cell, wanted = pos, batch.cell, [pos] if forces else []
            if stress:
                strain = pos.new_zeros(batch.num_structures, 3, 3, requires_grad=True)
                moved, cell = _strained(pos, batch, strain)
                wanted.append(strain)
            energy = self._energy(species, moved, cell, batch)
            gradients = _gradients(energy, wanted, create_graph=self.training)
        result = {"energy": energy if self.training else energy.detach()}
        if forces:
            result["forces"] = -gradients[0]
        if stress:
            virial = (gradients[-1] + gradients[-1].transpose(1, 2)) / 2
            volume = (
                torch.full_like(virial[:, :1, :1], torch.nan) if batch.volume is None else batch.volume[:, None, None]
            )
            known = torch.isfinite(volume)  # a division by NaN would spoil the gradients of the whole batch
            result["stress"] = (virial / volume.masked_fill(~known, 1.0)).masked_fill(~known, torch.nan)
        return result

    @torch.no_grad()
    def start_at(self, mean: float) -> None:
        """Let the readout begin at ``mean`` eV per atom above the references, instead of learning its way there."""
        last = self.readout[-1]
        assert isinstance(last, nn.Linear)
        last.bias.fill_(mean / self.scale)

    def _energy(self, species: Tensor, pos: Tensor, cell: Tensor | None, batch: StructureBatch) -> Tensor:
        """``[B]`` float64."""
        shift = None
        if cell is not None and batch.cell_shift is not None:
            of_edge = batch.structure[batch.nbr.target]
            shift = torch.einsum("ek,ekd->ed", batch.cell_shift, cell[of_edge])
        features = self.backbone(species, pos, batch.nbr, shift)
        if features.ndim == 3:
            features = features[:, 0]
        atomic = self.readout(features)[:, 0].double() * self.scale + self.references[species]
        return atomic.new_zeros(batch.num_structures).index_add(0, batch.structure, atomic)

    def _species(self, z: Tensor) -> Tensor:
        species = self.species_of[z]
        if not self.training and bool((species < 0).any()):  # in training every element is known
            unknown = sorted(set(z[species < 0].tolist()))
            raise InputError(
                f"z: got atomic numbers {unknown}, the model knows {self.elements}. Leave these structures out, or "
                "train a model on data that has these elements."
            )
        return species

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Moves and casts of the module; the reference energies stay in float64."""
        super()._apply(fn, recurse)
        self.references = torch.tensor(self._references, dtype=torch.float64, device=self.references.device)
        return self


def _strained(pos: Tensor, batch: StructureBatch, strain: Tensor) -> tuple[Tensor, Tensor | None]:
    """Positions and lattice vectors under ``strain [B, 3, 3]``, at whose zero the derivative is taken."""
    moved = pos + torch.einsum("nd,nde->ne", pos, strain[batch.structure])
    return moved, None if batch.cell is None else batch.cell + batch.cell @ strain


def _gradients(energy: Tensor, inputs: list[Tensor], create_graph: bool) -> tuple[Tensor, ...]:
    if not energy.requires_grad:  # no edge at all: the energy depends on no position
        return tuple(torch.zeros_like(x) for x in inputs)
    return torch.autograd.grad(energy.sum(), inputs, create_graph=create_graph, materialize_grads=True)


def by_element(references: Mapping[int, float] | Mapping[str, float] | None) -> dict[int, float]:
    """Reference energies by atomic number; JSON knows texts as keys alone."""
    return {int(z): float(energy) for z, energy in (references or {}).items()}
