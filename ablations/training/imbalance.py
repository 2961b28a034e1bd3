"""How unbalanced a detector's classification is: what it is asked, and where plain CE would look.

At a few iterations the hook counts the candidates of every classification head and computes plain
cross entropy on the head's own outputs and targets, whatever loss is trained. It only reads:
weights and random numbers are those of a trial without it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from mmdet.models.task_modules import MlvlPointGenerator, PseudoSampler
from mmengine.dist import all_reduce, get_world_size
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor

from ablations.training.classification import Seen, put, watch
from ablations.training.distributed import bare_model
from ablations.training.heads import Head, heads

WINDOWS = ("start", "middle", "end")
OBJECTNESS = ("loss_conf", "loss_obj")


def cross_entropy_shares(seen: Seen) -> tuple[Tensor, Tensor]:
    """Plain CE of the negatives, and of all, summed over a call's rows (softmax) or pairs."""
    logits = seen.logits.detach().float()
    rows = seen.positive_rows()
    labels = seen.labels
    if seen.softmax:
        each = F.cross_entropy(logits, labels, reduction="none")
        negative = torch.ones_like(each, dtype=torch.bool)
        negative[rows] = False
        weight = seen.row_weight()
        return (each * weight)[negative].sum(), (each * weight).sum()
    weight = seen.weight if seen.weight is not None else logits.new_ones(len(logits))
    weight = weight.reshape(len(logits), -1).expand_as(logits)
    kept = weight != 0
    negative = (F.softplus(logits) * weight).where(kept, 0)
    there = rows, labels[rows]
    positive = (F.softplus(-logits[there]) * weight[there]).where(kept[there], 0)
    only_negative = negative.sum() - negative[there].sum()
    return only_negative, only_negative + positive.sum()


@dataclass
class HeadCounts:
    """What was counted of one head in the sampled iterations."""

    images: float = 0.0
    candidates: float = 0.0
    positives: float = 0.0
    assigned: list[float] = field(default_factory=lambda: [0.0, 0.0])  # before a sampler draws
    shares: dict[str, list[float]] = field(
        default_factory=lambda: {name: [0.0, 0.0] for name in WINDOWS}
    )  # sum and number of iterations

    def numbers(self) -> list[float]:
        """All of it in a fixed order."""
        flat = [self.images, self.candidates, self.positives, *self.assigned]
        return flat + [value for name in WINDOWS for value in self.shares[name]]

    def take(self, numbers: list[float]) -> None:
        """The opposite of ``numbers``."""
        self.images, self.candidates, self.positives, *rest = numbers
        self.assigned, rest = rest[:2], rest[2:]
        self.shares = {name: rest[2 * i : 2 * i + 2] for i, name in enumerate(WINDOWS)}


@HOOKS.register_module()
class ImbalanceHook(Hook):
    """Count each head's candidates and positives, and the negatives' share of plain CE.

    Args:
        samples: iterations to look at, at the start, in the middle and at the end of training.
    """

    def __init__(self, samples: int = 3) -> None:
        self.samples = samples
        self.counts: dict[str, HeadCounts] = {}
        self._model: Any = None
        self._heads: list[Head] = []
        self._stop: list[Callable[[], object]] = []
        self._sums: dict[str, list[Tensor]] = {}

    def before_train(self, runner: Runner) -> None:
        """Find the heads that can be watched."""
        self._model = bare_model(runner)
        self._heads = [head for head in heads(self._model) if watch_name(head) is not None]
        for head in self._heads:
            self.counts.setdefault(head.path, HeadCounts())

    def windows(self, iteration: int, iterations: int) -> list[str]:
        """The parts of training that an iteration is a sample of."""
        middle = (iterations - self.samples) // 2
        starts = dict(zip(WINDOWS, (0, middle, iterations - self.samples), strict=True))
        return [name for name, at in starts.items() if at <= iteration < at + self.samples]

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Begin to watch, if this iteration is a sample."""
        if not self.windows(runner.iter, runner.max_iters):
            return
        for head in self._heads:
            self._sums[head.path] = []
            name = watch_name(head)
            assert name is not None  # or it would not be among them
            self._stop.append(watch(head, name, self._note(head.path), before_mining=True))
            for assigner in assigners(self._model, head):
                self._stop.append(self._watch_assigner(head.path, assigner))

    def _note(self, path: str) -> Callable[[Seen], None]:
        @torch.no_grad()
        def note(seen: Seen) -> None:
            candidates, positives = seen.counts()
            self._sums[path].append(
                torch.stack([candidates, positives, *cross_entropy_shares(seen)])
            )

        return note

    def _watch_assigner(self, path: str, assigner: Any) -> Callable[[], object]:
        assign = assigner.assign
        counts = self.counts[path]

        def counted(*args: Any, **kwargs: Any) -> Any:
            found = assign(*args, **kwargs)
            counts.assigned[0] += int((found.gt_inds >= 0).sum())
            counts.assigned[1] += int((found.gt_inds > 0).sum())
            return found

        return put(assigner, "assign", counted)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Add the iteration's counts."""
        if not self._stop:
            return
        for stop in self._stop:
            stop()
        self._stop = []
        named = self.windows(runner.iter, runner.max_iters)
        for path, calls in self._sums.items():
            if not calls:
                continue
            candidates, positives, negative, total = torch.stack(calls).double().sum(0).tolist()
            counts = self.counts[path]
            counts.images += len(data_batch["inputs"])
            counts.candidates += candidates
            counts.positives += positives
            for name in named:
                if 0 < total < float("inf"):
                    counts.shares[name][0] += negative / total
                    counts.shares[name][1] += 1
        self._sums = {}

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Store the counts."""
        checkpoint["imbalance"] = {path: one.numbers() for path, one in self.counts.items()}

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Continue the checkpoint's counts."""
        for path, numbers in checkpoint.get("imbalance", {}).items():
            self.counts.setdefault(path, HeadCounts()).take(numbers)

    def after_train(self, runner: Runner) -> None:
        """Add up the counts of all processes."""
        if get_world_size() == 1:
            return
        device = next(self._model.parameters()).device
        for counts in self.counts.values():
            total = torch.tensor(counts.numbers(), dtype=torch.float64, device=device)
            all_reduce(total)
            counts.take(total.tolist())

    def entries(self) -> list[dict[str, Any]]:
        """``Record.imbalance``: an entry for each head that gave labels."""
        found = []
        for head in self._heads:
            counts = self.counts[head.path]
            if not counts.images:
                continue
            shares = {
                name: total / number if number else None
                for name, (total, number) in counts.shares.items()
            }
            entry = {
                "head": head.path,
                "unit": unit(head),
                "candidates": counts.candidates / counts.images,
                "positives": counts.positives / counts.images,
                "ce_negative_share": shares,
            }
            if any(counts.assigned):
                candidates, positives = (number / counts.images for number in counts.assigned)
                entry["before_sampling"] = {"candidates": candidates, "positives": positives}
            found.append(entry)
        return found

    def missing(self) -> str | None:
        """``Record.imbalance_missing``: why nothing could be watched."""
        if any(counts.images for counts in self.counts.values()):
            return None
        if self._model is None:
            return "training did not begin"
        if not self._heads:
            return f"no head of {type(self._model).__name__} has a classification loss to watch"
        paths = ", ".join(head.path for head in self._heads)
        return f"{paths} did not call its classification loss with labels in a sampled iteration"


def watch_name(head: Head) -> str | None:
    """The loss of a head in which its imbalance lies: that of objectness, where it has one."""
    named = [name for name in (*OBJECTNESS, "loss_cls") if name in head.losses]
    return named[0] if named else ("loss_cls" if head.computes_softmax else None)


def unit(head: Head) -> str:
    """What a head classifies."""
    generator = getattr(head.module, "prior_generator", None)
    if generator is None:
        return "proposals"
    return "locations" if isinstance(generator, MlvlPointGenerator) else "anchors"


def assigners(model: Any, head: Head) -> list[Any]:
    """The assigners of a head whose sampler draws some of the candidates."""
    owner, name = (model.roi_head, "bbox_") if head.in_stage_two else (head.module, "")
    sampler = getattr(owner, f"{name}sampler", None)
    assigner = getattr(owner, f"{name}assigner", None)
    if isinstance(assigner, list) or assigner is None or sampler is None:
        return []
    return [] if isinstance(sampler, PseudoSampler) else [assigner]
