"""The cache of compiled programs."""

import sys

import jax

from memorax.cache_folder import user_cache_folder


def enable_compilation_cache() -> None:
    """Keep compiled programs for the next process, unless the user has said where already."""
    if jax.config.values["jax_compilation_cache_dir"] is None:
        caches = user_cache_folder()
        if caches is None:
            print(
                "memorax: no compilation cache: there is no home folder; XDG_CACHE_HOME can name "
                "another place",
                file=sys.stderr,
            )
            return
        jax.config.update("jax_compilation_cache_dir", str(caches / "jax"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
