"""The default: a narrow RetinaNet on the embedded digits, a matter of minutes on two CPU cores."""

_base_ = ["_base_/retinanet_r18_narrow.py", "_base_/digits.py", "_base_/runtime.py"]

protocol = "embedded"  # which of a grid's values fit this detector

# Made by `make pretrained` of the training split alone; the file beside it says how.
weights = "{{ fileDirname }}/pretrained/digits_r18.pth"
model = dict(backbone=dict(init_cfg=dict(type="Pretrained", checkpoint=weights)))

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
auto_scale_lr = dict(enable=False, base_batch_size=12)

# For the report: what the numbers owe to the choice of the setting.
setting = (
    "The data and a first detector were chosen in 17 single trainings and one stopped sweep of 12 "
    "trials, with the seeds 0, 100 and 101, most of them of focal loss with gamma 2, alpha 0.25. "
    "The detector was then made cheaper, and the schedule and one learning rate for all arms were "
    "chosen in 20 trainings with seed 100, half of them of plain CE and half of that focal loss. "
    "With 48 channels in place of 32, the rate 0.01 was better than 0.02 for both (CE 52.3 against "
    "49.5 AP, focal loss 59.1 against 57.3); with a wider stem too, CE gained from 0.0025 over "
    "0.005 to 0.01 (45.0, 47.7, 49.8) and focal loss hardly changed (54.7, 54.4, 53.5). Single "
    "trainings of one setting differ by some three AP, so these are hints. No other gamma or alpha "
    "was tried, and no arm has a learning rate of its own. At last, for its cost alone, 20 "
    "trainings with the seeds 100 and 101, half of each, took the backbone's third stage away (CE "
    "49.0, focal loss 57.6 without it) and made the batch 12 images instead of 16, which costs AP "
    "and costs CE more: 44.3 and 43.5 against 50.4 and 52.0; 8 images were too few for both (39.5 "
    "and 37.4 against 39.1 and 40.2)."
)

# For --dry-run, until trials of the sweep have finished.
expected_cost = dict(
    trial_s=62,
    iterations=max_iters,
    device="one core of an AMD EPYC",
    source="the undisturbed trials of the committed sweeps, 2026-11-25",
)
