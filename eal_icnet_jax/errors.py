"""The one error that is the user's to mend."""


class UserError(Exception):
    """Bad input, told in one sentence: what is wrong, where, and what to do.

    Commands print the sentence and exit with status 1.
    """
