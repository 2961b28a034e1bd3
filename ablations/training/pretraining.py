"""Pretrain the embedded detector's backbone, as ImageNet pretrains the paper's.

    python -m ablations.training.pretraining

It trains a classifier of crops of the *training* split, each a digit or background: the backbone of
a config, the maximum of its last feature map and a linear layer. The backbone is kept. The result
depends only on the seed and the number of threads, but on another processor the weights may differ
slightly. So trials load the file; they do not repeat the training.
"""

import argparse
import io
import json
import shlex
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.model import BaseModule
from mmengine.registry import DefaultScope
from numpy.typing import NDArray
from torch import Tensor, nn

from ablations.data import digits
from ablations.store.files import sha256, write_text
from ablations.training.outcome import versions

CONFIG = Path("configs/retinanet_r18_digits.py")
SIZE = 48  # pixels, of a crop
MARGIN = (1.0, 1.8)  # side of a crop, in longer sides of its digit
JITTER = 0.15  # of a crop's side, that its centre may be off
BACKGROUNDS = 3000  # crops
BACKGROUND_SIDES = (24.0, 60.0)  # pixels
MAX_TOUCH = 0.05  # of a background crop's area, that a digit's box may cover
BATCH = 64
EPOCHS = 6
LEARNING_RATE = 0.008
WEIGHT_DECAY = 0.05
THREADS = 2


@dataclass(frozen=True)
class Crops:
    """What the classifier learns from."""

    images: Tensor  # uint8 [N, 3, SIZE, SIZE], BGR
    labels: Tensor  # [N]; background is the number of classes
    photographs: list[str]
    digits: list[int]  # their numbers among scikit-learn's


def cut_crops(root: Path, seed: int) -> Crops:
    """Cut a crop around every object of a data set's training split, and crops of background.

    Args:
        root: folder of the embedded data set; only its training split is opened.
        seed: of the crops' sizes and places.
    """
    rng = np.random.default_rng(seed)
    coco = json.loads((root / "annotations" / "train.json").read_text())
    objects: dict[int, list[dict[str, Any]]] = {image["id"]: [] for image in coco["images"]}
    for annotation in coco["annotations"]:
        objects[annotation["image_id"]].append(annotation)
    every = max(1, len(coco["images"]) // BACKGROUNDS)
    images: list[NDArray[np.uint8]] = []
    labels: list[int] = []
    for number, image in enumerate(coco["images"]):
        pixels = cv2.imread(str(root / "train" / image["file_name"]), cv2.IMREAD_COLOR)
        if pixels is None:
            raise FileNotFoundError(f"{root / 'train' / image['file_name']} cannot be read")
        boxes = np.array([o["bbox"] for o in objects[image["id"]]], float).reshape(-1, 4)
        for annotation, box in zip(objects[image["id"]], boxes, strict=True):
            side = max(box[2:]) * rng.uniform(*MARGIN)
            centre = box[:2] + box[2:] / 2 + side * rng.uniform(-JITTER, JITTER, 2)
            images.append(_crop(pixels, centre, side))
            labels.append(annotation["category_id"] - 1)
        if number % every == 0 and (place := _background(pixels.shape[0], boxes, rng)):
            images.append(_crop(pixels, *place))
            labels.append(len(coco["categories"]))
    return Crops(
        torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2),
        torch.tensor(labels),
        sorted({image["group"] for image in coco["images"]}),
        sorted({annotation["digit"] for annotation in coco["annotations"]}),
    )


def _crop(pixels: Any, centre: Any, side: float) -> Any:
    """A square of an image, scaled to SIZE; outside the image its edge is repeated."""
    scale = SIZE / side
    shift = SIZE / 2 - scale * np.asarray(centre)
    matrix = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])
    return cv2.warpAffine(pixels, matrix, (SIZE, SIZE), borderMode=cv2.BORDER_REPLICATE)


def _background(
    width: int, boxes: NDArray[np.float64], rng: np.random.Generator
) -> tuple[Any, float] | None:
    """Centre and side of a square that hardly touches a digit; ``None`` if 20 draws find none."""
    for _ in range(20):
        side = rng.uniform(*BACKGROUND_SIDES)
        low = rng.uniform(0, width - side, 2)
        overlap = np.minimum(low + side, boxes[:, :2] + boxes[:, 2:]) - np.maximum(
            low, boxes[:, :2]
        )
        if np.clip(overlap, 0, None).prod(1).sum() <= MAX_TOUCH * side**2:
            return low + side / 2, side
    return None


class Classifier(nn.Module):
    """A backbone, the maximum of its last feature map, and a linear layer."""

    def __init__(self, backbone: BaseModule, channels: int, classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.linear = nn.Linear(channels, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits [N, classes] of normalised images [N, 3, H, W]."""
        return self.linear(self.backbone(images)[-1].amax((2, 3)))


def build(model: dict[str, Any], classes: int) -> Classifier:
    """The classifier around a detector's backbone, all of it trainable, from random weights."""
    options = model["backbone"] | {"init_cfg": None, "frozen_stages": -1, "norm_eval": False}
    with DefaultScope.overwrite_default_scope("mmdet"):
        backbone = MODELS.build(options)
    backbone.init_weights()
    channels = model["neck"]["in_channels"][-1]
    classifier = Classifier(backbone, channels, classes)
    return classifier.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def fit(classifier: Classifier, model: dict[str, Any], crops: Crops, seed: int) -> float:
    """Train the classifier; returns its accuracy on the crops it was trained on."""
    images = _normalised(crops.images, model["data_preprocessor"])
    generator = torch.Generator().manual_seed(seed)
    steps = EPOCHS * (len(images) // BATCH)
    optimizer = torch.optim.AdamW(
        classifier.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, fused=True
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
    classifier.train()
    for chosen in _batches(len(images), generator):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(classifier(images[chosen]), crops.labels[chosen])
        loss.backward()
        optimizer.step()
        schedule.step()
    classifier.eval()
    with torch.no_grad():
        found = torch.cat([classifier(part).argmax(1) for part in images.split(BATCH)])
    return float((found == crops.labels).double().mean())


def _batches(count: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Indices of every batch of every epoch; what does not fill a batch is left out."""
    for _ in range(EPOCHS):
        order = torch.randperm(count, generator=generator)
        yield from order[: count // BATCH * BATCH].split(BATCH)


def _normalised(images: Tensor, preprocessor: dict[str, Any]) -> Tensor:
    """As the detector sees them: float32 [N, 3, H, W]."""
    mean = torch.tensor(preprocessor["mean"])[:, None, None]
    std = torch.tensor(preprocessor["std"])[:, None, None]
    if preprocessor.get("bgr_to_rgb"):
        images = images.flip(1)
    return images.float().sub_(mean).div_(std).contiguous(memory_format=torch.channels_last)


def pretrain(config: Config, root: Path, out: Path, seed: int) -> dict[str, Any]:
    """Train the backbone of a config; write its weights, and a note on how they were made.

    Returns:
        the note, which is also written to ``out`` with the suffix ``.json``.
    """
    began = time.monotonic()
    torch.set_num_threads(THREADS)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(seed)
    crops = cut_crops(root, seed)
    classifier = build(config.model, len(digits.CLASSES) + 1)
    accuracy = fit(classifier, config.model, crops, seed)
    out.parent.mkdir(parents=True, exist_ok=True)
    weights = {name: value.contiguous() for name, value in classifier.backbone.state_dict().items()}
    buffer = io.BytesIO()  # a file would hold its own name
    torch.save({"state_dict": weights}, buffer)
    out.write_bytes(buffer.getvalue())
    note = {
        "sha256": sha256(out),
        "command": "python -m ablations.training.pretraining " + shlex.join(sys.argv[1:]),
        "date": datetime.now(timezone.utc).date().isoformat(),
        "seconds": round(time.monotonic() - began),
        "versions": versions(),
        "seed": seed,
        "threads": THREADS,
        "data": {"name": "digits", "version": digits.VERSION, "split": "train"},
        "crops": len(crops.labels),
        "backgrounds": int((crops.labels == len(digits.CLASSES)).sum()),
        "training_accuracy": round(accuracy, 4),
        "photographs": crops.photographs,
        "digits": crops.digits,
    }
    lines = (f"{json.dumps(key)}: {json.dumps(value)}" for key, value in note.items())
    write_text(out.with_suffix(".json"), "{" + ",\n ".join(lines) + "}\n")
    return note


def main(arguments: list[str] | None = None) -> None:
    """Pretrain the backbone of the default config."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, default=CONFIG)
    parser.add_argument("--depth", type=int, help="of the ResNet; default: the config's")
    parser.add_argument("--data", type=Path, default=Path("data/digits"))
    parser.add_argument("--out", type=Path, help="default: configs/pretrained/digits_r<depth>.pth")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(arguments)
    config = Config.fromfile(args.config)
    if args.depth:
        config.model.backbone.depth = args.depth
    out = args.out or Path("configs/pretrained") / f"digits_r{config.model.backbone.depth}.pth"
    args.data.parent.mkdir(parents=True, exist_ok=True)
    if line := digits.build(args.data):
        print(line)
    note = pretrain(config, args.data, out, args.seed)
    print(
        f"{out}: training accuracy {note['training_accuracy']:.1%} on {note['crops']} crops, "
        f"{note['seconds']} s, sha256 {note['sha256'][:12]}"
    )


if __name__ == "__main__":
    main()
