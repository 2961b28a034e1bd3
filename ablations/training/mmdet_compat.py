"""What mmdet 3.3 forgot: a detector with ``SSDHead`` cannot predict.

mmdet asks every dense head's ``loss_cls`` whether it has an activation of its own. SSDHead computes
its loss itself and has no ``loss_cls``.
"""

from mmdet.models.dense_heads import SSDHead


def mend_ssd_head() -> None:
    """Give SSDHead a ``loss_cls`` of ``None`` where it has none."""
    if not hasattr(SSDHead, "loss_cls"):
        SSDHead.loss_cls = None
