"""Read OpenMMLab configs, and what a grid takes from another config than the sweep's."""

from pathlib import Path
from typing import Any

from mmengine.config import Config

from ablations.shipped import configs_folder
from ablations.sweep.errors import UsageError, one_of
from ablations.sweep.grid import FROM_CONFIG
from ablations.sweep.option_types import ABSENT, value_at

_OWN_LOSS = ("SSDHead", "PISASSDHead")


def load_config(path: str) -> dict[str, Any]:
    """Read an OpenMMLab config with its bases, without importing what it names.

    Args:
        path: of the config, or the name of a shipped one: ``retinanet_r18_digits`` or
            ``configs/retinanet_r18_digits.py``, from any folder; or one that mmdet ships:
            ``mmdet::atss/atss_r50_fpn_1x_coco.py``.

    Raises:
        UsageError: the file is missing or cannot be read.
    """
    try:
        if "::" in path:  # as in ``_base_``
            text = f"_base_ = [{path!r}]\n"
            return Config.fromstring(text, ".py")._cfg_dict.to_dict()
        return Config.fromfile(_file(path), import_custom_modules=False)._cfg_dict.to_dict()
    except UsageError:
        raise
    except Exception as error:
        why = " ".join(str(error).split())
        raise UsageError(f"config {path} cannot be read: {why}") from error


def _file(path: str) -> Path:
    file = Path(path)
    if not file.is_file():
        file = configs_folder() / path.removeprefix("configs/").removesuffix(".py")
        file = file.with_name(f"{file.name}.py")
    if not file.is_file():
        valid = sorted(f"configs/{each.name}" for each in configs_folder().glob("*.py"))
        raise UsageError(one_of("config", path, valid))
    return file


def taken_from_files(path: str, value: Any, files: dict[str, dict[str, Any]]) -> Any:
    """``value``, with what another config has at the same path wherever it names one.

    Args:
        path: where the value stands in the config.
        value: as the grid sets it.
        files: the configs that were read, by name; filled by this function.

    Raises:
        UsageError: there is no such config, or it has nothing at this path.
    """
    if isinstance(value, dict) and FROM_CONFIG in value:
        name = value[FROM_CONFIG]
        if name not in files:
            files[name] = load_config(name)
        if (found := value_at(files[name], path)) is ABSENT:
            raise UsageError(f"{path}: the config {name} has nothing there")
        return found
    if isinstance(value, dict):
        return {key: taken_from_files(f"{path}.{key}", one, files) for key, one in value.items()}
    return value


def check_settable(config: dict[str, Any], path: str) -> None:
    """Refuse to set a loss of a head that computes its own.

    Raises:
        UsageError: one line says so.
    """
    place, _, key = path.rpartition(".")
    head = value_at(config, place)
    kind = str(head.get("type")).rpartition(".")[2] if isinstance(head, dict) else ""
    if key.startswith("loss_") and kind in _OWN_LOSS:
        raise UsageError(
            f"{path}: {kind} computes its loss itself (softmax cross entropy of the positives and "
            "the hardest negatives): no other can be set"
        )
