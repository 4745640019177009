"""`LayerContract`: the tests that every layer has to pass, as a class to inherit. Runs under pytest, imports none."""

from __future__ import annotations

import io
import unittest
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck

from geoattn.kernels import Neighborhood
from geoattn.testing.equivariance import TOLERANCE, assert_equivariant, named_outputs, relative_error
from geoattn.testing.groups import Element, Group, Spec, count_rows, merge


@dataclass(frozen=True)
class ContractGraph:
    """A graph on which the contract tries a layer.

    Attributes:
        pos: ``[N, n]`` float64, n the dimension of the contract's group (3 without one).
        edge_index: ``[2, E]`` int64, row 0 = source.
        seed: makes features that repeat.
    """

    pos: Tensor
    edge_index: Tensor
    seed: int = 0

    @property
    def num_nodes(self) -> int:
        """N."""
        return self.pos.shape[0]

    @property
    def num_edges(self) -> int:
        """E."""
        return self.edge_index.shape[1]

    def randn(self, *shape: int) -> Tensor:
        """Standard normal float64 numbers, the same in each call with the same shape."""
        generator = torch.Generator().manual_seed(self.seed + 7919 * sum(shape))
        return torch.randn(*shape, generator=generator, dtype=torch.float64)


class LayerContract:
    """Inherit this, fill in two methods and two tables, and pytest runs eighteen tests on your layer.

    Every test works on the layer in evaluation mode with a small random number added to each parameter, so that
    branches initialised to zero count; in float64 unless it is about another precision. A test that does not apply is
    skipped. A layer that breaks a rule on purpose overrides that test, and says why.

    Attributes to set:
        in_specs, out_specs: how inputs and outputs transform, see ``geoattn.testing.Spec``.
        group: the layer's symmetry, e.g. ``"E(3)"``; None for a layer without geometry.
        tolerance: largest relative error of the symmetry tests in float64.
        second_derivatives: whether gradients of gradients are tested (forces are trained through them).
        compiles: whether ``torch.compile(fullgraph=True)`` is tested.
        autocast: whether the layer is tested under bfloat16 autocast.

    Methods to fill in: ``layer()`` and ``inputs(graph)``.

    Example:
        >>> import torch
        >>> class TestDistances(LayerContract):
        ...     in_specs = {"pos": "position/node", "edge_index": "edge_index"}
        ...     out_specs = {"distance": "invariant/edge"}
        ...     group = "E(3)"
        ...     def layer(self):
        ...         class Distances(torch.nn.Module):
        ...             def forward(self, pos, edge_index):
        ...                 return (pos[edge_index[0]] - pos[edge_index[1]]).square().sum(-1)
        ...         return Distances()
        ...     def inputs(self, graph):
        ...         return {"pos": graph.pos, "edge_index": graph.edge_index}
        >>> TestDistances().test_symmetry()
    """

    in_specs: Mapping[str, str | Spec]
    out_specs: Mapping[str, str | Spec | None]
    group: str | None = None
    tolerance: float = TOLERANCE[torch.float64]
    second_derivatives: bool = False
    compiles: bool = False
    autocast: bool = True

    def layer(self) -> nn.Module:
        """A new layer, its parameters drawn from torch's generator."""
        raise NotImplementedError("LayerContract: define layer(self), which returns a new layer")

    def inputs(self, graph: ContractGraph) -> dict[str, Any]:
        """The keyword arguments of the layer's forward for a graph; floating-point tensors in float64."""
        raise NotImplementedError("LayerContract: define inputs(self, graph), which returns forward's arguments")

    # ---- symmetry

    def test_symmetry(self) -> None:
        """Outputs transform as declared under the group."""
        if self.group is None:
            raise unittest.SkipTest("no group declared")
        layer, inputs = self._layer(), self.inputs(self._random())
        for name, value in self._run(layer, inputs).items():
            assert value.numel() and value.abs().max() > 0, f"output {name!r} is zero: its symmetry proves nothing"
        self._assert_equivariant(layer, inputs, self.group)

    def test_permutation(self) -> None:
        """Renumbering nodes, with all edges shuffled, renumbers the outputs."""
        self._assert_equivariant(self._layer(), self.inputs(self._random()), "permutation")

    def test_shuffled_edges(self) -> None:
        """The order of the edges changes nothing."""
        layer, inputs = self._layer(), self.inputs(self._random())
        ins, outs = self._specs()
        num_edges = count_rows(inputs, ins).get("edge", 0)
        shuffle = Element(permutations={"edge": torch.arange(num_edges - 1, -1, -1)})
        shuffled = {k: ins[k].transform(v, shuffle) if k in ins and v is not None else v for k, v in inputs.items()}
        expected = self._run(layer, inputs)
        for name, value in self._run(layer, shuffled).items():
            self._assert_close(value, outs[name].transform(expected[name], shuffle), f"{name!r} with shuffled edges")

    def test_batch_of_two(self) -> None:
        """Two graphs in one batch get what each gets alone."""
        layer = self._layer()
        _, outs = self._specs()
        for second in (self._random(num_nodes=4, num_edges=7, seed=1), self._graph(1, [])):
            alone = [self.inputs(self._random()), self.inputs(second)]
            expected = [self._run(layer, inputs) for inputs in alone]
            together = self._run(layer, merge(alone, self._specs()[0]))
            for name, spec in outs.items():
                if spec.rows is not None:
                    parts = torch.cat([values[name] for values in expected])
                    self._assert_close(together[name], parts, f"{name!r} of two graphs in a batch and of each alone")

    # ---- gradients

    def test_gradients(self) -> None:
        """Gradients of all outputs by inputs and parameters agree with finite differences."""
        fn, arguments = self._differentiable(self._random(num_nodes=5, num_edges=9))
        gradcheck(fn, arguments, atol=1e-5, rtol=1e-3, nondet_tol=1e-10, fast_mode=True)

    def test_second_gradients(self) -> None:
        """Gradients of gradients agree with finite differences."""
        if not self.second_derivatives:
            raise unittest.SkipTest("second_derivatives is not declared")
        fn, arguments = self._differentiable(self._random(num_nodes=5, num_edges=9))
        gradgradcheck(fn, arguments, atol=1e-5, rtol=1e-3, nondet_tol=1e-10, fast_mode=True)

    def test_inputs_unmodified(self) -> None:
        """Forward and backward leave their inputs as they were."""
        layer, inputs = self._layer(), self.inputs(self._random())
        before = {k: _copy(v) for k, v in inputs.items()}
        for run in (self._run, self._backward):  # with gradients, torch itself refuses some writes
            run(layer, inputs)
            changed = [name for name, value in inputs.items() if not _same(value, before[name])]
            assert not changed, f"the layer wrote into its inputs {changed}"

    # ---- graphs that hurt

    def test_no_edges(self) -> None:
        """Nodes without any edge."""
        self._check_graph(self._graph(4, []))

    def test_one_node(self) -> None:
        """A single node."""
        self._check_graph(self._graph(1, []))

    def test_isolated_node(self) -> None:
        """One node without edges among others."""
        self._check_graph(self._graph(5, [(0, 1), (1, 0), (2, 1), (3, 2)]))

    def test_coincident_points(self) -> None:
        """Connected nodes at the same place: outputs and gradients stay finite, symmetry holds."""
        graph = self._graph(4, [(0, 1), (1, 0), (2, 1), (3, 2), (0, 2)])
        pos = graph.pos.clone()
        pos[1] = pos[0]
        self._check_graph(ContractGraph(pos, graph.edge_index))

    def test_hub(self) -> None:
        """One node that all others send to and receive from."""
        others = range(1, 300)
        self._check_graph(self._graph(300, [(j, 0) for j in others] + [(0, j) for j in others]))

    def test_loops_and_duplicates(self) -> None:
        """Self loops and edges given twice."""
        self._check_graph(self._graph(3, [(0, 0), (0, 1), (0, 1), (1, 2), (2, 2), (2, 1)]))

    def test_empty_batch(self) -> None:
        """No nodes at all."""
        self._check_graph(self._graph(0, []))

    # ---- around the layer

    def test_save_and_load(self) -> None:
        """The state dict carries all that the layer computes with."""
        layer, other = self._layer(), self._layer(seed=1)
        inputs = self.inputs(self._random())
        buffer = io.BytesIO()
        torch.save(layer.state_dict(), buffer)
        buffer.seek(0)
        other.load_state_dict(torch.load(buffer, weights_only=True), strict=True)
        expected = self._run(layer, inputs)
        for name, value in self._run(other, inputs).items():
            assert torch.equal(value, expected[name]), f"{name!r} differs after loading the saved state"

    def test_float32(self) -> None:
        """float32 in, float32 out, equal to float64 up to rounding."""
        inputs = self.inputs(self._random())
        expected = self._run(self._layer(), inputs)
        for name, value in self._run(self._layer(torch.float32), _cast(inputs, torch.float32)).items():
            if expected[name].is_floating_point():
                assert value.dtype == torch.float32, f"{name!r} is {value.dtype} for float32 inputs"
                assert expected[name].dtype == torch.float64, f"{name!r} is {expected[name].dtype} for float64 inputs"
            self._assert_close(value, expected[name], f"{name!r} in float32 and in float64", TOLERANCE[torch.float32])

    def test_autocast(self) -> None:
        """Runs forward and backward under bfloat16 autocast, near the float32 result."""
        if not self.autocast:
            raise unittest.SkipTest("autocast is switched off")
        layer, inputs = self._layer(torch.float32), _cast(self.inputs(self._random()), torch.float32)
        expected = self._run(layer, inputs)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            outputs = self._backward(layer, inputs)
        for name, value in outputs.items():
            self._assert_close(value, expected[name], f"{name!r} under autocast and without", TOLERANCE[torch.bfloat16])

    def test_compile(self) -> None:
        """Compiles into one graph with the same outputs and gradients."""
        if not self.compiles:
            raise unittest.SkipTest("compiles is not declared")
        torch.compiler.reset()
        layer, inputs = self._layer(), self.inputs(self._random())
        expected = self._backward(layer, inputs)
        gradients = {name: p.grad for name, p in layer.named_parameters()}
        layer.zero_grad()
        # aot_eager traces forward and backward as the default back end does, and skips the slow C++ compilation
        outputs = self._backward(torch.compile(layer, fullgraph=True, backend="aot_eager"), inputs)
        for name, value in outputs.items():
            self._assert_close(value, expected[name], f"{name!r} compiled and not")
        for name, parameter in layer.named_parameters():
            gradient = gradients[name]
            assert (parameter.grad is None) == (gradient is None), f"gradient of {name} compiled and not"
            if parameter.grad is not None and gradient is not None:
                self._assert_close(parameter.grad, gradient, f"gradient of {name} compiled and not")

    # ---- helpers

    def _specs(self) -> tuple[dict[str, Spec], dict[str, Spec]]:
        ins = {name: Spec.parse(spec) for name, spec in self.in_specs.items()}
        return ins, {name: Spec.parse(spec) for name, spec in self.out_specs.items() if spec is not None}

    def _layer(self, dtype: torch.dtype = torch.float64, seed: int = 0) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            layer = self.layer().eval().double()
            with torch.no_grad():
                for parameter in layer.parameters():
                    parameter.add_(torch.randn_like(parameter), alpha=0.1)
        return layer.to(dtype)

    def _graph(self, num_nodes: int, edges: list[tuple[int, int]], seed: int = 0) -> ContractGraph:
        dim = (Group.parse(self.group).dim if self.group else 0) or 3
        pos = torch.randn(num_nodes, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        return ContractGraph(pos, torch.tensor(edges, dtype=torch.long).reshape(-1, 2).T, seed)

    def _random(self, num_nodes: int = 7, num_edges: int = 20, seed: int = 0) -> ContractGraph:
        """Random edges without self loops."""
        generator = torch.Generator().manual_seed(seed)
        source = torch.randint(num_nodes, (num_edges,), generator=generator)
        target = (source + torch.randint(1, num_nodes, (num_edges,), generator=generator)) % num_nodes
        return self._graph(num_nodes, list(zip(source.tolist(), target.tolist(), strict=True)), seed)

    def _run(self, layer: nn.Module, inputs: Mapping[str, Any]) -> dict[str, Tensor]:
        return named_outputs(layer(**inputs), self.out_specs)

    def _assert_equivariant(self, layer: nn.Module, inputs: Mapping[str, Any], group: str) -> None:
        specs: dict[str, Any] = {"in_specs": self.in_specs, "out_specs": self.out_specs}
        assert_equivariant(layer, inputs, group=group, tolerance=self.tolerance, **specs)

    def _assert_close(self, actual: Tensor, expected: Tensor, what: str, tolerance: float | None = None) -> None:
        allowed = self.tolerance if tolerance is None else tolerance
        error = relative_error(actual, expected, what)
        assert error <= allowed, f"{what}: relative difference {error:.2e}, allowed {allowed:.0e}"

    def _backward(self, layer: Callable[..., Any], inputs: Mapping[str, Any]) -> dict[str, Tensor]:
        """Forward, then backward of a sum of squares to inputs and parameters; checks that all of it is finite."""
        leaves = {k: v.requires_grad_() for k, v in _floating(inputs).items()}
        try:
            result = layer(**inputs)
            for name, value in named_outputs(result, self.out_specs).items():
                assert torch.isfinite(value).all(), f"output {name!r} is not finite"
            outputs = result.values() if isinstance(result, Mapping) else _as_list(result)
            squares = [o.double().square().sum() for o in outputs if isinstance(o, Tensor) and o.requires_grad]
            if squares:
                torch.stack(squares).sum().backward()
            parameters = layer.named_parameters() if isinstance(layer, nn.Module) else ()
            for name, leaf in (*leaves.items(), *parameters):
                gradient = leaf.grad
                assert gradient is None or torch.isfinite(gradient).all(), f"the gradient of {name!r} is not finite"
        finally:
            for leaf in leaves.values():
                leaf.requires_grad_(False).grad = None
        return named_outputs(result, self.out_specs)

    def _check_graph(self, graph: ContractGraph) -> None:
        """Right number of rows, all finite, gradients too, and both symmetries."""
        layer, inputs = self._layer(), self.inputs(graph)
        ins, outs = self._specs()
        counts = count_rows(inputs, ins)
        for name, value in self._backward(layer, inputs).items():
            rows = counts.get(str(outs[name].rows))
            assert rows is None or value.shape[0] == rows, f"{name!r} has {value.shape[0]} rows, expected {rows}"
        for group in filter(None, (self.group, "permutation")):
            self._assert_equivariant(layer, inputs, group)

    def _differentiable(self, graph: ContractGraph) -> tuple[Any, tuple[Tensor, ...]]:
        """The layer as a function of its floating-point inputs and parameters, and those."""
        layer, inputs = self._layer(), self.inputs(graph)
        leaves = {k: v.detach().clone().requires_grad_() for k, v in _floating(inputs).items()}
        parameters = {k: p.detach().clone().requires_grad_() for k, p in layer.named_parameters()}

        def fn(*values: Tensor) -> tuple[Tensor, ...]:
            given = dict(zip(leaves, values, strict=False))
            weights = dict(zip(parameters, values[len(leaves) :], strict=True))
            result = torch.func.functional_call(layer, weights, kwargs={**inputs, **given})
            outputs = result.values() if isinstance(result, Mapping) else _as_list(result)
            return tuple(o for o in outputs if isinstance(o, Tensor) and o.requires_grad)

        return fn, (*leaves.values(), *parameters.values())


def _floating(inputs: Mapping[str, Any]) -> dict[str, Tensor]:
    return {k: v for k, v in inputs.items() if isinstance(v, Tensor) and v.is_floating_point()}


def _cast(inputs: Mapping[str, Any], dtype: torch.dtype) -> dict[str, Any]:
    return {**inputs, **{k: v.to(dtype) for k, v in _floating(inputs).items()}}


def _as_list(result: Any) -> list[Any]:
    return list(result) if isinstance(result, tuple | list) else [result]


def _copy(value: Any) -> Any:
    if isinstance(value, Neighborhood):
        return value.edge_index.clone()
    return value.detach().clone() if isinstance(value, Tensor) else value


def _same(value: Any, before: Any) -> bool:
    if isinstance(value, Neighborhood):
        value = value.edge_index
    return torch.equal(value, before) if isinstance(value, Tensor) else value is before
