"""How much a trial's AP owes to the validation images it happens to be scored on.

All trials are scored under the same resamples of the images, so differences are paired. Only the
spread of the resampled AP is used: its mean lies above the plain AP (copies of an image make the
ranking easier), by nearly as much on both sides of a difference.

Images of one photograph, video, scene or site are not independent. Where the annotations give the
group of an image (``ablations.analysis.image_groups``), groups are drawn instead, each with all its
images. The spread over n groups comes out short by sqrt((n - 1) / n) and has n - 1 degrees of
freedom, for which the interval makes up; of fewer than ``FEWEST_GROUPS`` there is none.
"""

import contextlib
import functools
import hashlib
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ablations.analysis.image_groups import ImageGroups, find_groups, group_key, group_numbers
from ablations.analysis.matching import match_trial
from ablations.analysis.resampling import group_weights, image_weights, resampled_ap
from ablations.analysis.scored import UNREADABLE, read_values, scored, why, write_values
from ablations.analysis.seeds import adjusted_means
from ablations.analysis.study import Study
from ablations.store.files import read_json, sha256
from ablations.store.record import PREDICTIONS
from ablations.store.states import TrialState

RESAMPLES = 400  # the standard deviation is known to 1 / sqrt(2 x 400) = 3.5 %
SEED = 0
MAX_TRIALS = 96  # trials to resample at most; the lowest seeds of every cell first
MAX_PREDICTION_BYTES = (
    2 << 20
)  # of predictions, where there are more trials than that: some seconds' work
CACHE = "resamples"
ENOUGH_FOR_PROCESSES = 8
FEWEST_GROUPS = 8
"""Groups below which no interval over groups is given: a convention. Student's t keeps simulated
coverage near 95 % from four groups on (reports/benchmarks/coverage.md), at the price of width: with
eight it is 1.2 times that of a known spread, with four 1.6 times, and the spread that it rests on
is known to a quarter with eight, to two fifths with four."""


@dataclass(frozen=True)
class Resamples:
    """AP in percent under each resample, [RESAMPLES], by (label, seed): ``ap``; empty where nothing
    was resampled. ``groups`` are the groups of images, where the annotations give them."""

    ap: dict[tuple[str, int], NDArray[np.float64]] = field(default_factory=dict)
    groups: ImageGroups | None = None

    @property
    def too_few_groups(self) -> bool:
        """Whether there are groups, but too few for an interval."""
        return self.groups is not None and self.groups.count < FEWEST_GROUPS

    @property
    def df(self) -> float:
        """Degrees of freedom of the standard deviation over resamples."""
        return np.inf if self.groups is None else self.groups.count - 1.0

    def sd(self, values: NDArray[np.float64]) -> float:
        """Standard deviation of a figure, from its ``values`` under each resample."""
        return float(values.std(ddof=1)) * self.inflation

    @property
    def inflation(self) -> float:
        """What a standard deviation over resamples has to be multiplied by."""
        return 1.0 if self.groups is None else float(np.sqrt(self.groups.count / self.df))


@dataclass(frozen=True)
class _Job:
    key: tuple[str, int]
    annotations: Path
    predictions: Path
    digest: str
    classes: tuple[str, ...]
    cache: Path
    group_key: str | None = None  # where the groups of the images are drawn


def resample_study(study: Study, say: Callable[[str], None] = lambda _line: None) -> Resamples:
    """Resampled AP of the study's finished trials that kept their predictions.

    What was computed is kept in the sweep's ``resamples`` folder by the predictions' checksum.

    Args:
        study: the trials.
        say: called with a line for each trial that is left out, because its predictions or their
            annotations are damaged or are not what its record describes.
    """
    jobs = [job for state in _chosen(study) if (job := _job(state)) is not None]
    key = group_key(study)
    groups = _groups(jobs, key)
    if groups is not None:
        jobs = [_grouped(job, key) for job in jobs]
    if Resamples({}, groups).too_few_groups:
        _truth.cache_clear()
        return Resamples({}, groups)
    before = {job.key: read_values(job.cache, (RESAMPLES,)) for job in jobs}
    known = {key: values for key, values in before.items() if values is not None}
    missing = [job for job in jobs if job.key not in known]
    for job, found in zip(missing, _compute_all(missing), strict=True):
        if isinstance(found, str):
            say(found)
        else:
            known[job.key] = found
    _truth.cache_clear()
    return Resamples({job.key: known[job.key] for job in jobs if job.key in known}, groups)


def _groups(jobs: list[_Job], key: str) -> ImageGroups | None:
    """The groups of the images, from the first trial whose files can be read."""
    for job in jobs:
        with contextlib.suppress(*UNREADABLE):
            return find_groups(_truth(job.annotations), job.predictions, key)
    return None


def mean_over(resamples: Resamples, label: str, seeds: Iterable[int]) -> NDArray[np.float64] | None:
    """A cell's AP averaged over those of ``seeds`` that were resampled: [RESAMPLES], or ``None``
    where there are none."""
    found = [resamples.ap[label, seed] for seed in seeds if (label, seed) in resamples.ap]
    return np.mean(found, axis=0) if found else None


def _chosen(study: Study) -> list[TrialState]:
    """Every cell's lowest seed, those of the baseline and of the best cell first, then the next.

    Up to ``MAX_TRIALS`` trials, all of them if there are no more; of more, only as many as keep to
    ``MAX_PREDICTION_BYTES``, but two at least.
    """
    kept = [
        state
        for state in study.records
        if state.state == "finished" and (state.folder / PREDICTIONS).is_file()
    ]
    order = {label: index for index, label in enumerate(study.labels)}
    means = adjusted_means(study.values())
    first = (study.baseline, means.idxmax() if means.notna().any() else None)
    kept.sort(
        key=lambda state: (
            state.entry.seed,
            state.entry.label not in first,
            order[state.entry.label],
        )
    )
    if len(kept) <= MAX_TRIALS:
        return kept
    sizes = np.cumsum([(state.folder / PREDICTIONS).stat().st_size for state in kept[:MAX_TRIALS]])
    return kept[: max(2, int((sizes <= MAX_PREDICTION_BYTES).sum()))]


def _job(state: TrialState) -> _Job | None:
    found = scored(state)
    if found is None:
        return None
    return _Job(
        (state.entry.label, state.entry.seed),
        found.annotations,
        found.predictions,
        found.predictions_digest,
        found.classes,
        found.work_dir / CACHE / f"{found.digests}-{RESAMPLES}-{SEED}.npy",
    )


def _compute_all(jobs: list[_Job]) -> list[NDArray[np.float64] | str]:
    """Resampled AP, or why there is none, of each job; on all cores, where it is worth a pool and
    forking is safe (a single thread)."""
    workers = len(os.sched_getaffinity(0))
    if len(jobs) < ENOUGH_FOR_PROCESSES or workers == 1 or threading.active_count() > 1:
        return [_attempt(job) for job in jobs]
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        return list(pool.map(_attempt, jobs))


def _attempt(job: _Job) -> NDArray[np.float64] | str:
    try:
        return _compute(job)
    except UNREADABLE as error:
        return why(error)


def _compute(job: _Job) -> NDArray[np.float64]:
    if sha256(job.predictions) != job.digest:
        raise ValueError(f"{job.predictions} is not the file that its record describes")
    matches = match_trial(job.annotations, job.predictions, job.classes, _truth)
    weights = _weights(matches.image_ids.tobytes(), job.annotations, job.group_key)
    ap = resampled_ap(matches, weights, areas=1)[0].reshape(-1, RESAMPLES)
    values = 100 * np.nanmean(ap, axis=0)
    write_values(job.cache, values)
    return values


# Trials of a sweep share both.
_truth = functools.lru_cache(maxsize=1)(read_json)


@functools.lru_cache(maxsize=1)
def _weights(image_ids: bytes, annotations: Path, key: str | None) -> NDArray[np.int32]:
    """How often each image counts, [RESAMPLES, images], the same for every trial of a sweep."""
    ids = np.frombuffer(image_ids, dtype=np.int64)
    generator = np.random.default_rng(SEED)
    if key is None:
        return image_weights(len(ids), RESAMPLES, generator)
    return group_weights(group_numbers(_truth(annotations), ids, key), RESAMPLES, generator)


def _grouped(job: _Job, key: str) -> _Job:
    """The same trial under drawn groups: cached apart from what drawn images gave."""
    digest = hashlib.sha256(key.encode()).hexdigest()[:8]
    return replace(job, group_key=key, cache=job.cache.with_stem(f"{job.cache.stem}-by-{digest}"))
