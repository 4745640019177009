"""What is drawn of scenes: samples of training, and the fixed trials by which a model is measured."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch.utils.data import Dataset

from geoattn.domains.multiview.batch import Frame, Trial, ViewBatch, make_sample, trial_sample
from geoattn.domains.multiview.records import Scene, in_unit_of

NUM_TRIALS = 4
"""Views of a scene, at most, that a model is asked for when it is measured; they are drawn once."""


@dataclass(frozen=True)
class Drawing:
    """How training samples are drawn.

    Attributes:
        num_inputs: V, views that are given.
        num_targets: T, views that are asked for; the same view more than once if there are fewer.
        rays: R, pixels of each of these, without repetition; all where images have no more.
        frame: of the poses, see `make_sample`.
        own_unit: lengths of each sample are in the unit of its given views, see `in_unit_of`.
    """

    num_inputs: int
    num_targets: int
    rays: int
    frame: Frame
    own_unit: bool = False


class TrainingSamples(Dataset[ViewBatch]):
    """Samples of scenes, drawn anew in each epoch.

    Item ``epoch * len(self) + i`` is sample ``i`` of that epoch: what is drawn follows from seed, epoch and ``i``
    alone, so that neither the number of processes nor a run that was resumed changes it. An epoch has as many samples
    as it takes to show each view about once.

    Args:
        views: scenes, each with the rows of views that may be used.
        drawing: what is drawn.
        seed: of it.
    """

    def __init__(self, views: Sequence[tuple[Scene, Sequence[int]]], drawing: Drawing, seed: int = 0) -> None:
        self.views, self.drawing, self.seed = views, drawing, seed
        each = drawing.num_inputs + drawing.num_targets
        self.scene_of = np.repeat(np.arange(len(views)), [max(1, len(rows) // each) for _, rows in views])

    def __len__(self) -> int:
        return len(self.scene_of)

    def __getitem__(self, item: int) -> ViewBatch:
        epoch, row = divmod(item, len(self))
        rng, drawing = np.random.default_rng([self.seed, epoch, row]), self.drawing
        scene, rows = self.views[self.scene_of[row]]
        order = rng.permutation(rows)
        inputs, rest = order[: drawing.num_inputs], order[drawing.num_inputs :]
        targets = np.resize(rest, drawing.num_targets)
        scene = in_unit_of(scene, inputs.tolist()) if drawing.own_unit else scene
        num_pixels = scene.size[0] * scene.size[1]
        if drawing.rays >= num_pixels:
            return make_sample(scene, inputs.tolist(), targets.tolist(), frame=drawing.frame)
        rays = np.stack([rng.choice(num_pixels, drawing.rays, replace=False) for _ in targets])
        return make_sample(scene, inputs.tolist(), targets.tolist(), rays, drawing.frame)


class TrialSamples(Dataset[ViewBatch]):
    """Trials as samples, with all pixels of their targets."""

    def __init__(self, trials: Sequence[Trial], frame: Frame) -> None:
        self.trials, self.frame = trials, frame

    def __len__(self) -> int:
        return len(self.trials)

    def __getitem__(self, item: int) -> ViewBatch:
        return trial_sample(self.trials[item], self.frame)


def trials_of_scene(scene: Scene, num_inputs: int, seed: int, own_unit: bool = False) -> list[Trial]:
    """Trials of a scene: some of its views are given, some of the others are asked for.

    They follow from the seed, the name of the scene and the number of its views, whatever other scenes there are.
    With ``own_unit`` lengths are in the unit of the given views, see `in_unit_of`.
    """
    order = np.random.default_rng([seed, zlib.crc32(scene.id.encode())]).permutation(len(scene)).tolist()
    inputs = tuple(order[:num_inputs])
    scene = in_unit_of(scene, inputs) if own_unit else scene
    return [Trial(scene, inputs, target) for target in order[num_inputs:][:NUM_TRIALS]]


def trials_of_views(
    scene: Scene, split: Mapping[str, Sequence[int]], part: str, num_inputs: int, seed: int, own_unit: bool = False
) -> list[Trial]:
    """One trial for each view of a part of one scene; those that are given are drawn from the other training views.

    ``own_unit`` is that of `trials_of_scene`.
    """
    trials = []
    for target in split[part]:
        rng = np.random.default_rng([seed, zlib.crc32(scene.views[target].encode())])
        known = [view for view in split["train"] if view != target]
        inputs = tuple(rng.permutation(known)[:num_inputs].tolist())
        trials.append(Trial(in_unit_of(scene, inputs) if own_unit else scene, inputs, target))
    return trials
