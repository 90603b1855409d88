"""The one exception that is meant for the user's eyes."""


class UserError(Exception):
    """Something the user can mend: the message says what was wrong, what is allowed and what to type.

    Rules and commands print the message alone, without a traceback.
    """
