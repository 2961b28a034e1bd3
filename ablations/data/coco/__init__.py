"""The checker of annotation files in COCO format: each is read once, and put right or refused.

``check`` reads one file and looks at its images; ``keep`` writes what became of it. The parts, one
subject a module: ``reading`` (bytes to lists), ``ids``, ``classes``, ``images`` and their ``files``
and ``headers``, ``boxes``; ``checking`` puts them together.
"""

from ablations.data.coco.checking import VERSION, Checked, Split, check
from ablations.data.coco.classes import COCO_CLASSES
from ablations.data.coco.writing import file_name, keep

__all__ = ["COCO_CLASSES", "VERSION", "Checked", "Split", "check", "file_name", "keep"]
