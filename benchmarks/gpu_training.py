"""RetinaNet by the COCO configs on synthetic images of COCO's size: iterations a second."""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from torch import nn

import ablations.training  # noqa: F401 - registers what the configs name
from benchmarks.bench_losses import torchvision_loss

CONFIGS = ("configs/retinanet_r50_coco_600.py", "configs/retinanet_r101_coco_600.py")
IMAGES, CLASSES = 64, 80


class TorchvisionFocalLoss(nn.Module):
    """torchvision's focal loss as mmdet's heads call a loss."""

    use_sigmoid = True

    def __init__(self) -> None:
        super().__init__()
        self.loss = torchvision_loss()

    def forward(self, pred: Any, target: Any, weight: Any = None, avg_factor: Any = None) -> Any:
        weight = torch.ones_like(target, dtype=pred.dtype) if weight is None else weight
        return self.loss(pred, target, weight, avg_factor)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rehearse", action="store_true")
    rehearse = parser.parse_args().rehearse
    init_default_scope("mmdet")
    MODELS.register_module(module=TorchvisionFocalLoss, force=True)
    device = "cpu" if rehearse else "cuda"
    print("Batches of 2, decoded from JPEG by the config's workers; the data cache is off.\n")
    print(
        "| config | classification loss | iterations/s | GPU memory | waiting for data | losses |"
    )
    print("|---|---|---:|---:|---:|---|")
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        write_images(Path(folder), 4 if rehearse else IMAGES)
        rows: list[tuple[str, str, bool]] = [
            (CONFIGS[0], "ours", False),
            (CONFIGS[0], "mmdet", False),
            (CONFIGS[0], "torchvision", False),
            (CONFIGS[0], "ours", True),
            (CONFIGS[1], "ours", False),
        ]
        for path, loss, amp in rows[:4] if rehearse else rows:
            cfg = prepared(path, loss, Path(folder), rehearse)
            found = train(cfg, device, 2 if rehearse else 60, amp)
            wrong += not found["finite"]
            name = f"{Path(path).stem}{', float16 autocast' if amp else ''}"
            print(
                f"| {name} | {loss} | {found['rate']:.2f} | {found['memory'] / 2**30:.1f} GiB | "
                f"{found['waiting']:.0%} | {'finite' if found['finite'] else '**not finite**'} |",
                flush=True,
            )
    return int(wrong > 0)


def write_images(folder: Path, count: int) -> None:
    """JPEGs of 640 x 480 with boxes on a rough background, and their annotations."""
    rng = np.random.default_rng(0)
    images, annotations = [], []
    for number in range(1, count + 1):
        rough = rng.integers(0, 255, (60, 80, 3), dtype=np.uint8)
        pixels = cv2.resize(rough, (640, 480), interpolation=cv2.INTER_CUBIC)
        for _ in range(7):  # COCO's mean
            x, y = int(rng.integers(0, 500)), int(rng.integers(0, 380))
            width, height = int(rng.integers(12, 140)), int(rng.integers(12, 100))
            colour = tuple(int(c) for c in rng.integers(0, 255, 3))
            cv2.rectangle(pixels, (x, y), (x + width, y + height), colour, -1)
            annotations.append(
                dict(id=len(annotations) + 1, image_id=number, iscrowd=0, area=width * height)
                | dict(category_id=int(rng.integers(1, CLASSES + 1)), bbox=[x, y, width, height])
            )
        name = f"{number:012d}.jpg"
        cv2.imwrite(str(folder / name), pixels)
        images.append(dict(id=number, file_name=name, width=640, height=480))
    categories = [dict(id=i + 1, name=str(i)) for i in range(CLASSES)]
    text = json.dumps(dict(images=images, annotations=annotations, categories=categories))
    (folder / "annotations.json").write_text(text)


def prepared(path: str, loss: str, folder: Path, small: bool) -> Config:
    """The config on the synthetic images, with random weights and one of three losses."""
    cfg = Config.fromfile(path)
    cfg.model.backbone.init_cfg = None
    if loss != "ours":
        kinds = {
            "mmdet": dict(type="FocalLoss", use_sigmoid=True, gamma=2.0, alpha=0.25),
            "torchvision": dict(type="TorchvisionFocalLoss"),
        }
        cfg.model.bbox_head.loss_cls = kinds[loss]
    loader = cfg.train_dataloader
    loader.sampler.seed = 0
    loader.dataset.update(seed=0, limit_mb=0, prefix_mb=0)
    inner = loader.dataset.dataset
    inner.update(data_root="", ann_file=str(folder / "annotations.json"))
    inner.data_prefix = dict(img=f"{folder}/")
    inner.metainfo = dict(classes=tuple(str(i) for i in range(CLASSES)))
    if small:
        loader.update(num_workers=0, persistent_workers=False)
        for step in inner.pipeline:
            if step["type"] == "Resize":
                step["scale"] = (128, 96)
    return cfg


def train(cfg: Config, device: str, iterations: int, amp: bool) -> dict[str, Any]:
    """Train, and measure from the sixth of the iterations on."""
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    model.init_weights()
    model = model.to(device).train()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=1e-4, momentum=0.9)
    scaler = torch.amp.GradScaler(device, enabled=amp and device == "cuda")
    half = torch.float16 if device == "cuda" else torch.bfloat16
    batches = iter(Runner.build_dataloader(cfg.train_dataloader, seed=0))
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    finite, waited, began, counted = True, 0.0, time.perf_counter(), 0
    for number in range(iterations):
        if number == iterations // 6:
            waited, counted, began = 0.0, 0, time.perf_counter()
        start = time.perf_counter()
        batch = next(batches)
        waited += time.perf_counter() - start
        data = model.data_preprocessor(batch, training=True)
        with torch.autocast(device, dtype=half, enabled=amp):
            losses = model(**data, mode="loss")
        total, _ = model.parse_losses(losses)
        optimizer.zero_grad()
        scaler.scale(total).backward()
        scaler.step(optimizer)
        scaler.update()
        finite &= bool(total.detach().isfinite())  # also waits for the device
        counted += 1
    seconds = time.perf_counter() - began
    memory = torch.cuda.max_memory_allocated() if device == "cuda" else 0
    return dict(rate=counted / seconds, memory=memory, waiting=waited / seconds, finite=finite)


if __name__ == "__main__":
    sys.exit(main())
