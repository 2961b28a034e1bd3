"""A synthetic problem of COCO's size: 5,000 images, 80 classes, 100 detections an image."""

from typing import Any

import numpy as np

IMAGES, CLASSES, DETECTIONS = 5000, 80, 100


def coco_sized(
    rng: np.random.Generator, images: int = IMAGES
) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    """About 7.3 objects of 3 classes an image; detections near the objects or anywhere."""
    annotations: list[dict[str, Any]] = []
    image_id, category_id, boxes, scores = [], [], [], []
    for image in range(images):
        present = rng.choice(CLASSES, 3, replace=False)
        n = int(rng.poisson(7.3))
        categories = rng.choice(present, n)
        sizes = np.exp(rng.uniform(np.log(8), np.log(300), (n, 2)))
        truth = np.column_stack([rng.uniform(0, 400, (n, 2)), sizes])
        crowd = rng.random(n) < 0.01
        annotations += [
            {
                "id": len(annotations) + i + 1,
                "image_id": image + 1,
                "category_id": int(categories[i]) + 1,
                "bbox": truth[i].tolist(),
                "area": float(sizes[i].prod() * 0.7),
                "iscrowd": int(crowd[i]),
            }
            for i in range(n)
        ]
        source = rng.integers(0, n, DETECTIONS // 2) if n else np.zeros(0, int)
        size = np.column_stack([truth[source, 2:], truth[source, 2:]])
        near = truth[source] + rng.normal(0, 0.12, (len(source), 4)) * size
        far_n = DETECTIONS - len(source)
        far = np.column_stack(
            [rng.uniform(0, 400, (far_n, 2)), np.exp(rng.uniform(2, 5.5, (far_n, 2)))]
        )
        found = np.concatenate([near, far])
        found[:, 2:] = np.maximum(found[:, 2:], 1)
        image_id.append(np.full(DETECTIONS, image + 1))
        category_id.append(
            np.concatenate([categories[source] + 1, rng.integers(1, CLASSES + 1, far_n)])
        )
        boxes.append(found)
        scores.append(np.concatenate([rng.beta(2, 3, len(source)), rng.beta(1, 6, far_n)]))
    return annotations, {
        "image_id": np.concatenate(image_id).astype(np.int64),
        "category_id": np.concatenate(category_id).astype(np.int64),
        "bbox": np.concatenate(boxes).astype(np.float32),
        "score": np.concatenate(scores).astype(np.float32),
    }
