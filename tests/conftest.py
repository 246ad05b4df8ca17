"""What all tests share: no result depends on chance, and hypothesis never fails for being slow."""

from __future__ import annotations

from hypothesis import settings

from tests.fixtures import compilation_cache, hasty_sqlite, postgresql_server, postgresql_url, storage_url

__all__ = ["compilation_cache", "hasty_sqlite", "postgresql_server", "postgresql_url", "storage_url"]

# A machine that other work keeps busy is slow now and then: time is no property of the code.
# Derandomised, so that two runs of one commit agree.
settings.register_profile("scalesearch", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("scalesearch")
