"""Pretrained models: plain folders, written and read strictly, and the models that come with the package."""

from geoattn.hub.card import Card
from geoattn.hub.folder import FORMAT, Pretrained, from_pretrained, save_pretrained
from geoattn.hub.shipped import ShippedModel, list_models

__all__ = ["FORMAT", "Card", "Pretrained", "ShippedModel", "from_pretrained", "list_models", "save_pretrained"]
