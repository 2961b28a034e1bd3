"""Let ``exec`` add to the caller's ``locals()``, as it did before Python 3.13.

mmcv's ``setup.py`` reads its version that way, so on Python 3.13 neither pip's download of it nor
its compilation gets anywhere. Python imports this module where its folder is on ``PYTHONPATH``.
"""

import builtins
import sys

_exec = builtins.exec


def _as_before(code, globals=None, locals=None, /, **options):
    if globals is None and locals is None:
        caller = sys._getframe(1)
        globals, locals = caller.f_globals, caller.f_locals
    if locals is None:
        return _exec(code, globals, **options)
    return _exec(code, globals, locals, **options)


if sys.version_info >= (3, 13):
    builtins.exec = _as_before
