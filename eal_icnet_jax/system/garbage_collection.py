"""How often Python looks for objects that refer to each other in circles."""

import gc


def collect_seldom():
    """Look for garbage after 50,000 new objects instead of 700.

    JAX keeps a million objects, all of which Python would look through again and again while it
    imports modules and traces programs: an eighth of the time in which a training starts.
    """
    gc.set_threshold(50_000, 10, 10)
