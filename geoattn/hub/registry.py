"""The model classes that a model folder may name.

A folder names its class by a key of this table and by nothing else, so reading a folder never imports code that does
not belong to geoattn. The classes themselves are imported when a folder asks for them.
"""

from importlib import import_module

from torch import nn

from geoattn.errors import InputError, nearest_hint

MODEL_CLASSES: dict[str, str] = {
    "dynamics/egnn": "geoattn.domains.dynamics.egnn_model:EGNNDynamics",
    "dynamics/integrator": "geoattn.domains.dynamics.integrator_model:PairForceIntegrator",
    "dynamics/se3_transformer": "geoattn.domains.dynamics.se3_transformer_model:SE3TransformerDynamics",
    "molecules/egnn": "geoattn.domains.molecules.egnn_model:EGNNModel",
    "molecules/egnn-potential": "geoattn.domains.molecules.egnn_potential:EGNNPotential",
    "molecules/equiformer-potential": "geoattn.domains.molecules.depthwise_potential:EquiformerPotential",
    "molecules/equiformer-v2-potential": "geoattn.domains.molecules.equiformer_potential:EquiformerV2Potential",
    "molecules/graph-attention": "geoattn.domains.molecules.graph_attention_model:GraphAttentionModel",
    "multiview/transformer": "geoattn.domains.multiview.transformer_model:MultiViewModel",
    "pointclouds/point-transformer": "geoattn.domains.pointclouds.point_transformer_model:PointTransformerModel",
    "pointclouds/risur": "geoattn.domains.pointclouds.risur_model:RISurModel",
    "sphere/transformer": "geoattn.domains.sphere.transformer_model:SphereModel",
    "synergy/egat": "geoattn.domains.synergy.egat_model:SynergyEGAT",
    "tcr/titan": "geoattn.domains.tcr.titan_model:Titan",
    "tcr/titan-masked": "geoattn.domains.tcr.titan_masked_model:TitanMasked",
}


def class_of(name: str) -> type[nn.Module]:
    """The model class registered as ``name``, imported now.

    Raises:
        InputError: ``name`` is not in the table; the message has the nearest name that is.
    """
    if name not in MODEL_CLASSES:
        raise InputError(f"Unknown model class {name!r}. {nearest_hint(str(name), list(MODEL_CLASSES))}")
    module, _, attribute = MODEL_CLASSES[name].partition(":")
    return getattr(import_module(module), attribute)


def name_of(model: nn.Module) -> str:
    """The name under which the class of ``model`` is registered.

    Raises:
        InputError: the class is not in the table.
    """
    place = f"{type(model).__module__}:{type(model).__qualname__}"
    for name, known in MODEL_CLASSES.items():
        if known == place:
            return name
    raise InputError(
        f"model: {type(model).__name__} is not a model class that geoattn can load again. "
        f"Registered: {', '.join(MODEL_CLASSES)} (geoattn/hub/registry.py)."
    )
