"""Settings of JAX, from the environment or from Python, with which no network can be trained."""

from __future__ import annotations

import os

from scalesearch.errors import InputError

_REQUIRED = {
    "jax_disable_jit": (False, "networks are compiled ahead of training"),
    "jax_numpy_dtype_promotion": ("standard", "networks mix integers and floats"),
    "jax_numpy_rank_promotion": ("allow", "networks broadcast their parameters"),
}
"""By option of `jax.config`: the value that training needs, and why."""


def check_jax() -> None:
    """Import jax and check that it can train here.

    Raises `InputError` naming the variable, its value and what is allowed. The options of `jax.config` take their
    values from environment variables of the same name in capitals.
    """
    try:
        import jax
    except ValueError as error:  # "invalid truth value 'maybe' for environment 'JAX_DISABLE_JIT'"
        raise InputError(f"jax refuses its settings: {error}") from None
    for option, (required, reason) in _REQUIRED.items():
        value = jax.config.values[option]
        if value != required:
            raise InputError(
                f"{option.upper()} must be {str(required).lower()} or unset, since {reason}, but got "
                f"{str(value).lower()}"
            )
    _check_platforms()


def _check_platforms() -> None:
    import jax

    try:
        jax.devices()
    except (AssertionError, RuntimeError) as error:
        platforms = os.environ.get("JAX_PLATFORMS") or jax.config.values["jax_platforms"]
        if not platforms:
            raise
        reason = str(error).partition(". (")[0] or "the device is missing, or this jax does not support it"
        raise InputError(
            f"JAX_PLATFORMS must name a platform that works here (cpu always does) or be unset, but got {platforms!r}: "
            f"{reason}"
        ) from None
