"""What every trial shares, whatever it trains."""

custom_imports = dict(imports=["ablations.training"], allow_failed_imports=False)
default_scope = "mmdet"

default_hooks = dict(
    timer=dict(type="IterTimerHook"),
    logger=dict(type="LoggerHook", interval=50),
    param_scheduler=dict(type="ParamSchedulerHook"),
    checkpoint=None,  # ResumableCheckpointHook below
    sampler_seed=None,  # the stream needs none
)
custom_hooks = [
    dict(type="ChannelsLastHook"),
    dict(type="SharedPrefixHook"),
    dict(type="LossCurveHook"),
    dict(type="ProgressHook"),
    dict(type="ProbabilityHook"),
    dict(type="ResumableCheckpointHook"),
    dict(type="ImbalanceHook"),
]
env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method="fork", opencv_num_threads=0),
    dist_cfg=dict(backend="nccl"),
)
visualizer = dict(
    type="DetLocalVisualizer", vis_backends=[dict(type="TrialRunBackend")], name="visualizer"
)
log_processor = dict(type="LogProcessor", window_size=50, by_epoch=False)
log_level = "INFO"
load_from = None
resume = False
randomness = dict(seed=0, deterministic=True)
hung_after_s = None  # seconds without progress; None: a limit that fits the trial
