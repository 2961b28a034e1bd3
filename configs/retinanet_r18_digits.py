"""The default: a narrow RetinaNet on the embedded digits, a matter of minutes on two CPU cores."""

_base_ = ["_base_/retinanet_r18_narrow.py", "_base_/digits.py", "_base_/runtime.py"]

protocol = "embedded"  # which of a grid's values fit this detector

# Made by `make pretrained` of the training split alone; the file beside it says how.
weights = "{{ fileDirname }}/pretrained/digits_r18.pth"
model = dict(backbone=dict(init_cfg=dict(type="Pretrained", checkpoint=weights)))

max_iters = 1500
warmup = 250
train_cfg = dict(type="StreamTrainLoop", max_iters=max_iters, val_interval=max_iters)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")

optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=0.005, betas=(0.9, 0.99), weight_decay=0.05, fused=True),
    clip_grad=dict(max_norm=10.0),
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
auto_scale_lr = dict(enable=False, base_batch_size=12)

# For the report: what the numbers owe to the choice of the setting.
setting = (
    "One setting for all arms, chosen with the seeds 501 to 504, which no report uses, on CE, CE "
    "with alpha 0.75, and FL with gamma 1 and 2 and alpha 0.25; gamma 5 with alpha 0.75 was looked "
    "at for its noise. The rule: a paired standard deviation of at most 0.5 AP, and of 0.6 with "
    "gamma 5, at the least cost and with the most imbalance. It is 0.32 and 0.35 here, from four "
    "seeds. Tried were a backbone that is trained as a whole, the rates 0.003 to 0.006 on this "
    "data, 1,000 iterations (without gamma 5, so a cheaper schedule is not ruled out), and data "
    "with three times as many negative windows a positive one (0.48 and 0.66; with the rate 0.01 "
    "0.54 and 0.85), which was taken at first, on a figure read too early, and given up."
)

# For --dry-run, until trials of the sweep have finished.
expected_cost = dict(
    trial_s=44,
    iterations=max_iters,
    device="one core of an AMD EPYC",
    source="the least disturbed of the trials that chose the setting, two at a time, 2026-11-25",
)
