"""The default: a narrow RetinaNet on the embedded digits, a matter of minutes on two CPU cores."""

_base_ = ["_base_/retinanet_r18_narrow.py", "_base_/digits.py", "_base_/runtime.py"]

protocol = "embedded"  # which of a grid's values fit this detector

max_iters = 1000
warmup = 250
train_cfg = dict(type="StreamTrainLoop", max_iters=max_iters, val_interval=max_iters)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")

optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=0.01, betas=(0.9, 0.99), weight_decay=0.05, fused=True),
    clip_grad=dict(max_norm=1.0),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.1, by_epoch=False, begin=0, end=warmup),
    dict(
        type="CosineAnnealingLR",
        by_epoch=False,
        begin=warmup,
        end=max_iters,
        T_max=max_iters - warmup,
        eta_min=0.0,
    ),
]
# The learning rate above belongs to this total batch; it is scaled linearly with the batch.
auto_scale_lr = dict(enable=False, base_batch_size=16)

# For --dry-run, until trials of the sweep have finished.
expected_cost = dict(
    trial_s=95,
    iterations=max_iters,
    device="one core of an AMD EPYC",
    source="median of the last trials of the committed gamma_alpha sweep, 2026-11-24",
)
