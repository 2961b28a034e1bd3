"""The paper's protocol for its ablations: RetinaNet-R50-FPN on COCO at 600 px, 90k iterations.

    python runners/sweep.py --grid gamma_alpha --config configs/retinanet_r50_coco_600.py \
        --gpus-per-trial 8

mmdet's own RetinaNet with the paper's numbers (arXiv:1708.02002, sections 3 to 5). With other than
8 processes the learning rate and the schedule follow the batch. Where the paper is silent, this
assumes:

- the longer side is at most 1000 px, and images without an object are left out;
- smooth L1's beta is 0.11, as in the authors' later code;
- the learning rate warms up over 500 iterations;
- the backbone's stem and first stage are frozen, its batch norms keep their statistics, and P6 is
  made from C5 (mmdet's RetinaNet);
- an object without any anchor of IoU 0.5 gets its best one (mmdet's assigner);
- the loss is divided by the assigned anchors of one process's batch (mmdet; the paper speaks of an
  image).
"""

_base_ = [
    "mmdet::_base_/models/retinanet_r50_fpn.py",
    "_base_/coco_600.py",
    "_base_/runtime.py",
]

protocol = "paper"  # which of a grid's values fit this detector

model = dict(
    # Section 4: P7 is a ReLU and a convolution on P6.
    neck=dict(relu_before_extra_convs=True),
    bbox_head=dict(
        loss_cls=dict(
            _delete_=True, type="ablations.FocalLoss", gamma=2.0, alpha=0.25, use_sigmoid=True
        ),
        # The prior: the classifier starts at p = 0.01 for every window (section 4.1).
        init_cfg=dict(
            type="Normal",
            layer="Conv2d",
            std=0.01,
            override=dict(type="Normal", name="retina_cls", std=0.01, bias_prob=0.01),
        ),
        loss_bbox=dict(_delete_=True, type="SmoothL1Loss", beta=0.11, loss_weight=1.0),
    ),
)

max_iters = 90_000
train_cfg = dict(type="StreamTrainLoop", max_iters=max_iters, val_interval=max_iters)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")

optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="SGD", lr=0.01, momentum=0.9, weight_decay=1e-4),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(type="MultiStepLR", by_epoch=False, milestones=[60_000, 80_000], gamma=0.1),
]
# The learning rate above belongs to this total batch; it is scaled linearly with the batch.
auto_scale_lr = dict(enable=False, base_batch_size=16)

# For --dry-run until a trial has finished (a sweep measures its own from then on). The share of the
# peak is what detectron2's published times come to (docs/cluster.md#what-it-costs); for another
# card set its numbers: --cfg-options expected_cost.peak_tflops=19.5 expected_cost.device="an A100"
expected_cost = dict(
    peak_tflops=15.7,
    utilisation=0.58,
    device="a V100",
    source="detectron2's published times of RetinaNet; not run here",
)
