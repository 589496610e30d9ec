"""How often Python looks for objects that refer to each other in circles."""

import gc


def collect_seldom():
    """Look for garbage after 50,000 new objects instead of 700.

    JAX keeps a million objects. While modules are imported and programs are traced, Python would
    search all of them many times, which takes an eighth of the start of a training.
    """
    gc.set_threshold(50_000, 10, 10)
