"""Where what can be made again is kept between processes."""

import os
from pathlib import Path


def user_cache_folder() -> Path | None:
    """Return memorax's folder in the user's cache, which need not exist.

    It is in ``XDG_CACHE_HOME`` if that is an absolute path, else in ``.cache`` of the home folder;
    None if there is neither, as for a user id of a container that has no entry.

    Source: XDG Base Directory Specification 0.8.
    """
    caches = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not caches.is_absolute():
        try:
            caches = Path.home() / ".cache"
        except RuntimeError:
            return None
    return caches / "memorax"
