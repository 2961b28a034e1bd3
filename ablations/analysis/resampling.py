"""COCO AP under resampled images, exactly, without calling pycocotools again.

A resample gives every image a multiplicity. The order of the detections by score does not change,
so with the matches at hand (``ablations.analysis.matching``) AP only needs weighted counts: along
the true detections of a class the number of true ones (TP) and of all that count (TP + FP). All
resamples are done at once, as rows of one array.

Why true detections suffice: precision is highest, at a given recall, right at a true detection, and
the first point to reach a recall is a true detection too; copies of one image give tied copies of a
detection, between which precision rises (if true) or recall stands still (if false). Detections of
equal score keep the order they have without resampling.
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from ablations.analysis.matching import AREAS, IOU_THRESHOLDS, RECALL_THRESHOLDS, Matches
from ablations.store.record import METRICS

CHUNK = 100  # resamples at once: what fits the cache
EPSILON = np.spacing(1.0)


def image_weights(images: int, resamples: int, generator: np.random.Generator) -> NDArray[np.int32]:
    """Multiplicities of ``images`` drawn with replacement: [resamples, images], rows sum to
    ``images``."""
    even = np.full(images, 1 / images)
    return generator.multinomial(images, even, size=resamples).astype(np.int32)


def group_weights(
    groups: NDArray[np.int64], resamples: int, generator: np.random.Generator
) -> NDArray[np.int32]:
    """Multiplicities of images whose groups are drawn with replacement, as many as there are, each
    with all its images: [resamples, images].

    Args:
        groups: the number of each image's group, from 0, [images].
        resamples: rows.
        generator: of the draws.
    """
    return image_weights(int(groups.max()) + 1, resamples, generator)[:, groups]


def resampled_figures(
    matches: Matches, weights: NDArray[np.integer], threads: int = 1
) -> NDArray[np.float64]:
    """COCO's six figures (``record.METRICS``) in percent under each row of ``weights``.

    Args:
        matches: I images.
        weights: [B, I], how often each image counts; ones for the plain evaluation.
        threads: worker threads.

    Returns:
        [B, 6]; NaN where a resample holds no object to find.
    """
    ap = resampled_ap(matches, weights, threads)
    at_50, at_75 = (int(np.argmin(abs(IOU_THRESHOLDS - t))) for t in (0.5, 0.75))
    chosen = [ap[0], ap[0, at_50], ap[0, at_75], ap[1], ap[2], ap[3]]
    columns = [_mean_known(part.reshape(-1, len(weights))) for part in chosen]
    return 100 * np.stack(columns, axis=1)


def resampled_ap(
    matches: Matches, weights: NDArray[np.integer], threads: int = 1, areas: int = len(AREAS)
) -> NDArray[np.float64]:
    """AP (a fraction) by area range, IoU threshold, class and resample: [areas, T, K, B]; NaN where
    a class has no object in a resample. ``areas`` = 1 does the range "all" only."""
    weights = np.asarray(weights)
    if weights.ndim != 2 or weights.shape[1] != len(matches.image_ids):
        raise ValueError(f"weights of shape {weights.shape} for {len(matches.image_ids)} images")
    classes = range(len(matches.category_ids))
    ap = np.full((areas, len(IOU_THRESHOLDS), len(classes), len(weights)), np.nan)
    jobs = [slice(i, i + CHUNK) for i in range(0, len(weights), CHUNK)]

    def work(chunk: slice) -> None:
        held = np.ascontiguousarray(weights[chunk], dtype=np.float64)  # [b, I]
        for k in classes:
            for area in range(areas):
                ap[area, :, k, chunk] = _class_ap(matches, held, area, k)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, jobs))
    return ap


def _class_ap(
    matches: Matches, weights: NDArray[np.float64], area: int, k: int
) -> NDArray[np.float64]:
    """AP of class ``k`` in one area range: weights [b, I] -> [T, b]."""
    span = slice(matches.start[k], matches.start[k + 1])
    objects = weights @ matches.objects[area, k].astype(np.float64)  # [b]
    result = np.zeros((len(IOU_THRESHOLDS), len(weights)))
    result[:, objects == 0] = np.nan
    matched = matches.matched[area][:, span]
    rows = np.flatnonzero(matched.any(axis=0))  # the only detections that need a column of counts
    if not len(rows) or not objects.any():
        return result
    image, in_range = matches.image[span], matches.in_range[area, span]
    own = weights.take(image[rows], axis=1)  # [b, rows]
    counted = _counted_up_to(rows, image, in_range, weights)
    reached = _thresholds_reached(objects)
    offsets = (np.arange(len(weights)) * reached.shape[1])[:, None]
    true = matches.true[area][:, span][:, rows]
    # In range and not matched is false: the matched ones are taken out again, the true ones put in.
    taken = matched[:, rows] & in_range[rows]
    for t in range(len(IOU_THRESHOLDS)):
        at = np.flatnonzero(true[t])
        if not len(at):
            continue
        tp = own.take(at, axis=1).cumsum(axis=1)
        total = counted.take(at, axis=1)
        if not np.array_equal(taken[t], true[t]):
            total += tp
            total -= _cumulated(own, np.flatnonzero(taken[t]), at)
        precision = tp / (total + EPSILON)
        envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        recalls = reached.take(offsets + tp.astype(np.intp))
        steps = np.diff(recalls, axis=1, prepend=0.0)
        result[t] += np.einsum("ij,ij->i", envelope, steps) / len(RECALL_THRESHOLDS)
    return result


def _counted_up_to(
    rows: NDArray[np.int64],
    image: NDArray[np.int64],
    in_range: NDArray[np.bool_],
    weights: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Weighted number of detections in range, up to and including each of ``rows``: [b, rows]."""
    kept = np.flatnonzero(in_range[: rows[-1] + 1])
    segment = np.searchsorted(rows, kept)
    shape = weights.shape[1], len(rows)
    sums = sparse.csr_matrix((np.ones(len(kept)), (image[kept], segment)), shape=shape)
    return (weights @ sums).cumsum(axis=1)


def _cumulated(
    own: NDArray[np.float64], taken: NDArray[np.int64], at: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Weighted number of the detections ``taken``, up to and including each of ``at``."""
    sums = np.zeros((len(own), len(taken) + 1))
    own.take(taken, axis=1).cumsum(axis=1, out=sums[:, 1:])
    return sums.take(np.searchsorted(taken, at, side="right"), axis=1)


def _thresholds_reached(objects: NDArray[np.float64]) -> NDArray[np.float64]:
    """How many of COCO's 101 recalls are reached with n true detections: [b, max objects + 1]."""
    n = np.arange(objects.max() + 1)
    recall = n / np.maximum(objects, 1)[:, None]
    return np.searchsorted(RECALL_THRESHOLDS, recall, side="right").astype(np.float64)


def _mean_known(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Column means over what is not NaN; NaN for columns without any."""
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.where(known, values, 0.0).sum(axis=0) / known.sum(axis=0)


def figures(matches: Matches) -> dict[str, float]:
    """The plain evaluation: COCO's six figures in percent, NaN where there is no object."""
    ones = np.ones((1, len(matches.image_ids)), dtype=np.int32)
    return dict(zip(METRICS, resampled_figures(matches, ones)[0].tolist(), strict=True))
