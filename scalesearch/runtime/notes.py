"""Which warnings are for the user: ours, and those of the user's own modules; not those of installed libraries."""

from __future__ import annotations

import inspect
import sysconfig

_INSTALLED = tuple({sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")})
_MACHINERY = ("warnings", "_py_warnings")


def is_note(category: type[Warning]) -> bool:
    """Whether the warning that is being shown is meant for the user. For `warnings.showwarning`, which must call it.

    A warning's file name tells whom it accuses, which may be our module; the call stack tells who warns.
    """
    if not issubclass(category, UserWarning):  # of numpy's arithmetic, of what will change
        return False
    frame = inspect.currentframe()
    frame = frame.f_back if frame else None  # `showwarning`
    frame = frame.f_back if frame else None
    while frame is not None and frame.f_globals.get("__name__") in _MACHINERY:
        frame = frame.f_back
    if frame is None or str(frame.f_globals.get("__name__")).partition(".")[0] == "scalesearch":
        return True
    return not frame.f_code.co_filename.startswith(_INSTALLED)
