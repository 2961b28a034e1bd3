"""The cells of ``make matrix``: which Python, torch and packages the tests run on."""

import re
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Cell:
    """One environment. ``packages`` are pip requirements that its versions are held to."""

    name: str
    python: str
    torch: str  # a requirement
    stack: str = "openmmlab"
    packages: tuple[str, ...] = field(default=())
    note: str = ""


def lower_bounds(dependencies: list[str]) -> tuple[str, ...]:
    """The oldest release that each dependency's ``>=`` allows, but torch's, for a cell."""
    found = (re.match(r"([\w-]+)>=([\w.]+)", line) for line in dependencies if ";" not in line)
    names = (match for match in found if match and not match[1].startswith("torch"))
    return tuple(f"{match[1]}=={match[2]}" for match in names)


OLDEST = ("oldest",)  # the lower bounds of pyproject.toml
CELLS = (
    Cell("py310-torch24", "3.10", "torch==2.4.0", packages=OLDEST, note="every lower bound"),
    Cell("py310-torch26", "3.10", "torch==2.6.0", note="pandas 2, numpy 2"),
    Cell("py311-torch213", "3.11", "torch==2.13.0", note="as CI"),
    Cell("py312-torch211", "3.12", "torch==2.11.0", note="newest packages"),
    Cell("py313-newest", "3.13", "torch", note="newest everything"),
    Cell("py312-onedl", "3.12", "torch==2.11.0", stack="onedl", note="OneDL's fork"),
)
