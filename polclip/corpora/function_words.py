"""Words with a function and no sense to choose, and where such a word is a noun or a main verb after all."""

from collections.abc import Callable, Sequence

from polclip.corpora.words import base_forms


def words_of(text: str) -> frozenset[str]:
    return frozenset(text.split())


_FUNCTION_WORDS = """
a an the this that these those some any no every each either neither both all another such
i me my mine myself you your yours yourself yourselves he him his himself she her hers herself it its itself
we us our ours ourselves they them their theirs themselves one ones who whom whose which what
about above across after against along amid among around as at before behind below beneath beside besides between
beyond but by despite down during except for from in inside into like near of off on onto out outside over past per
since through throughout till to toward towards under until up upon via with within without
and or nor so yet if because although though unless while whereas whether than when where why how
be am is are was were been being have has had having do does did doing done
can could may might must shall should will would ought cannot
not n't 's 're 've 'll 'd 'm 'em
"""
FUNCTION_WORDS = words_of(_FUNCTION_WORDS)

_MODALS = words_of("can may might must will")  # those that are nouns too
_SUBJECTS = words_of("i you he she it we they who there")
_DETERMINERS = words_of("a an the my your our their its every 's")
_ALSO_PRONOUNS = words_of("this that these those some any each all another such no his her one which what")
_PREPOSITIONS = words_of("of in into on with by from for at against without under through per")
_BE = words_of("am is are was were be been being")
_HAVE = words_of("have has had having")
_DO = words_of("do does did doing done")
_OBJECTS = (_DETERMINERS - {"'s"}) | words_of("no some any many much few several more enough nothing")
# Behind a determiner these are nouns or adjectives: the past, an inside job, the near future.
_PLACES = words_of("above behind down inside like near off outside over past under up while")
_SENTENCE_ENDS = words_of('. ! ? : ; " “ ” ( [ …')

IsLemma = Callable[[str, str], bool]  # of a word and a part of speech


def case_is_told(tokens: Sequence[str]) -> bool:
    """Whether capital letters mean something in a text: not in headlines, nor in a text of capitals alone."""
    return any(token.isalpha() and token.islower() and token not in FUNCTION_WORDS for token in tokens)


def parts_in_context(
    tokens: Sequence[str], plain: Sequence[str], at: int, case: bool, spelt: bool, is_lemma: IsLemma
) -> str:
    """The parts of speech that a function word has where it is, such as "n" of can in "a can"; "" where it has none.

    tokens: of the text. plain: the same in lower case and plain spelling. case: `case_is_told` of the text. spelt:
    whether WordNet spells a lemma as the token: US, WHO, May. is_lemma: whether a word as written is a lemma of a part
    of speech. These are rules of thumb, not a tagger.
    """
    word, token = plain[at], tokens[at]
    before, behind = plain[at - 1] if at else "", plain[at + 1] if at + 1 < len(plain) else ""
    starts = at == 0 or tokens[at - 1] in _SENTENCE_ENDS
    if case and spelt and len(token) > 1 and token.isupper():
        return "n"
    if word in _MODALS:
        if case and token[:1].isupper():
            return "n" if not starts or _is_name(behind, is_lemma) else ""
        return "n" if not starts and _is_noun(before, behind, is_lemma) else ""
    if word in _HAVE and (behind in _OBJECTS or behind.isdigit()):
        return "v"
    if word in _DO and behind in _OBJECTS and not starts and before not in ("what", "how", "why", "where", "when"):
        return "v"
    if word in _PLACES and before in _DETERMINERS | {"this", "that"}:
        return "nar"
    return "n" if word == "ones" and before in _DETERMINERS | {"these", "those"} else ""


def _is_name(behind: str, is_lemma: IsLemma) -> bool:
    """Whether May or Will begins a sentence as a noun: a question would have its subject next ("Will she come?")."""
    if behind in _BE | _HAVE | {"'s", "of", "in"} or behind.isdigit():
        return True
    inflected = any(is_lemma(base, "v") for base in base_forms(behind, "v") - {behind})
    return inflected and not any(is_lemma(base, "n") for base in base_forms(behind, "n"))


def _is_noun(before: str, behind: str, is_lemma: IsLemma) -> bool:
    """Whether can, may, might, must or will is a noun within a sentence, by the words beside it."""
    if before in _SUBJECTS:
        return False
    if before in _DETERMINERS or behind == "of" or behind in _BE - {"be"}:
        return True
    if behind in ("be", "have", "do", "not", "n't") or is_lemma(behind, "v") or is_lemma(behind, "r"):
        return False
    adjective = is_lemma(before, "a") and not is_lemma(before, "n") and not is_lemma(before, "r")
    return adjective or before in _ALSO_PRONOUNS or before in _PREPOSITIONS
