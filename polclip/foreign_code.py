"""Nothing that is loaded runs code."""


def refuse_foreign_code() -> None:
    """Let transformers refuse models and tokenizers that bring Python code of their own.

    By default it asks on the terminal and then runs the code. Our own calls pass trust_remote_code=False; open_clip's
    calls pass no answer, for which transformers knows this switch. With it the load ends in a ValueError.
    """
    from transformers import dynamic_module_utils

    dynamic_module_utils.TIME_OUT_REMOTE_CODE = 0
