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
    "One setting for all arms, chosen with the seeds 501 to 504, which no report uses, on CE, "
    "CE with alpha 0.75, and FL with gamma 1 and 2 and alpha 0.25; gamma 5 with alpha 0.75 "
    "was looked at for its noise. The rule: the most imbalance and the cheapest schedule "
    "whose paired standard deviation is at most 0.5 AP, and 0.6 with gamma 5. It is 0.32 and "
    "0.35 here. Tried were a backbone trained as a whole and one with a frozen first stage, "
    "1,000 and 1,500 iterations, the rates 0.003 to 0.006 on this data, and data with 2.9 "
    "times as many negative windows a positive one (0.48 and 0.66 with the same schedule; "
    "0.54 and 0.85 with the rate 0.01), which was first taken and then given up. The standard "
    "deviations come from four seeds and are uncertain by half."
)

# For --dry-run, until trials of the sweep have finished.
expected_cost = dict(
    trial_s=44,
    paired_sd=0.35,  # of one seed, in AP; five cells and four seeds
    iterations=max_iters,
    device="one core of an AMD EPYC",
    source="the least disturbed of the trials that chose the setting, two at a time, 2026-11-25",
)
