"""All experiments, in the order in which they are run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from benchmarks.changing import COPY, DELETE, RENAME
from benchmarks.experiment import Experiment, Scale
from benchmarks.listing import LS, LS_L
from benchmarks.parts import HEAD, RANDOM
from benchmarks.reading import CACHED, LIMITED, WHOLE_COLD
from benchmarks.server import Wanted
from benchmarks.sharing import MEMORY, SHARING
from benchmarks.starting import START

ALL: Final = (
    WHOLE_COLD,
    LIMITED,
    CACHED,
    HEAD,
    RANDOM,
    LS,
    LS_L,
    SHARING,
    MEMORY,
    COPY,
    RENAME,
    DELETE,
    START,
)


def wanted_by(experiments: Iterable[Experiment], scale: Scale) -> Wanted:
    """What the account must hold for all of *experiments*."""
    images: dict[str, int] = {}
    crowds: dict[str, int] = {}
    for experiment in experiments:
        wanted = experiment.wants(scale)
        images.update(wanted.images)
        crowds.update(wanted.crowds)
    return Wanted(images, crowds)
