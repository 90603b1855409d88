"""Words of English sentences: cut into tokens, and brought back to the forms a dictionary lists.

Suffix rules and irregular forms do what WordNet's `morphy` does with its exception lists, which some
archives of WordNet leave out. A form gives every base it could have; whoever asks knows the lemma they seek.
"""

import re
from functools import lru_cache

_TOKEN = re.compile(
    r"""
      (?:[^\W\d_]\.){2,}                             # U.S.A., a.m.
    | n['\u2019]t\b | ['\u2019](?:s|re|ve|ll|d|m|em)\b         # clitics are tokens of their own
    | \d+(?:[.,:/]\d+)*                              # 1,000  3.14  10:30
      (?:st|nd|rd|th|s)?\b
    | (?:(?!n['\u2019]t\b)\w)+(?:[-/&](?:\w)+)*           # words, with inner hyphens
      (?:['\u2019](?!(?:s|re|ve|ll|d|m|em|t)\b)\w+)*      # o'clock
    | [^\w\s]
    """,
    re.VERBOSE | re.IGNORECASE,
)

_SUFFIXES = {  # as "inflected:base"
    "n": "s: ses:s xes:x zes:z ches:ch shes:sh oes:o men:man ies:y ves:f ves:fe ae:a i:us a:um es:is",
    "v": "s: es: ies:y ed: ed:e ied:y ing: ing:e ying:ie cked:c cking:c",
    "a": "er: er:e est: est:e ier:y iest:y",
    "r": "er: er:e est: est:e ier:y iest:y",
}
_RULES = {pos: [tuple(rule.split(":")) for rule in rules.split()] for pos, rules in _SUFFIXES.items()}

# base and its irregular forms; what the suffix rules find by themselves is left out
_IRREGULAR = {
    "v": """
        be am are is was were been being 'm 're; have has had 've; do does did done; go goes went gone;
        abide abode; bid bade bidden; arise arose arisen; awake awoke awoken; bear bore borne born; beat
        beaten; become became; beget begot begotten; begin began begun; bend bent; beseech besought; bind
        bound; bite bit bitten; bleed bled; blow blew blown; break broke broken; breed bred; bring
        brought; build built; burn burnt; buy bought; catch caught; choose chose chosen; cling clung; come
        came; creep crept; deal dealt; dig dug; draw drew drawn; dream dreamt; drink drank drunk drunken;
        drive drove driven; dwell dwelt; eat ate eaten; fall fell fallen; feed fed; feel felt; fight
        fought; find found; flee fled; fling flung; fly flew flown; forbear forbore forborne; forbid
        forbade forbad forbidden; forget forgot forgotten; forgive forgave forgiven; forgo forwent
        forgone; forsake forsook forsaken; freeze froze frozen; get got gotten; gild gilt; gird girt; give
        gave given; grind ground; grow grew grown; hang hung; hear heard; hew hewn; hide hid hidden; hold
        held; keep kept; kneel knelt; know knew known; lay laid; lead led; lean leant; leap leapt; learn
        learnt; leave left; lend lent; lie lay lain; light lit; lose lost; make made; mean meant; meet
        met; mistake mistook mistaken; mow mown; partake partook partaken; pay paid; plead pled; prove
        proven; rend rent; ride rode ridden; ring rang rung; rise rose risen; run ran; saw sawn; say said;
        see saw seen; seek sought; sell sold; send sent; sew sewn; shake shook shaken; shear shorn; shed
        shed; shine shone; shoe shod; shoot shot; show shown; shrink shrank shrunk shrunken; sing sang
        sung; sink sank sunk sunken; sit sat; slay slew slain; sleep slept; slide slid; sling slung; slink
        slunk; smell smelt; smite smote smitten; sow sown; speak spoke spoken; speed sped; spell spelt;
        spend spent; spill spilt; spin spun span; spit spat; spoil spoilt; spring sprang sprung; stand
        stood; steal stole stolen; stick stuck; sting stung; stink stank stunk; strew strewn; stride
        strode stridden; strike struck stricken; string strung; strive strove striven; swear swore sworn;
        sweep swept; swell swollen; swim swam swum; swing swung; take took taken; teach taught; tear tore
        torn; tell told; think thought; thrive throve thriven; throw threw thrown; tread trod trodden;
        wake woke woken; wear wore worn; weave wove woven; weep wept; win won; wind wound; wring wrung;
        write wrote written; can could; will would 'll; may might; shall should; lade laden; cleave clove
        cloven cleft; stave stove; bereave bereft; rive riven; shrive shrove shriven; hamstring hamstrung;
        waylay waylaid; inlay inlaid; interweave interwove interwoven; dive dove; sneak snuck; backslide
        backslid; babysit babysat
    """,
    "n": """
        child children; foot feet; goose geese; louse lice; mouse mice; ox oxen; tooth teeth; person
        people; die dice; brother brethren; penny pence; datum data; medium media; phenomenon phenomena;
        criterion criteria; index indices; appendix appendices; matrix matrices; vertex vertices; axis
        axes; genus genera; opus opera; corpus corpora; stratum strata; cherub cherubim; beau beaux;
        bureau bureaux; plateau plateaux; passerby passersby; man men; woman women; quiz quizzes; bus
        busses; gas gasses
    """,
    "a": """
        good better best; well better best; bad worse worst; ill worse worst; far farther farthest further
        furthest; little less least; many more most; much more most; old elder eldest; late latter last;
        near next; a an; dry drier driest; shy shyer shyest; sly slyer; big bigger biggest
    """,
    "r": """
        well better best; badly worse worst; far farther farthest further furthest; little less least;
        much more most
    """,
}


def _by_form(text: str) -> dict[str, set[str]]:
    forms: dict[str, set[str]] = {}
    for entry in text.split(";"):
        base, *inflected = entry.split()
        for form in inflected:
            forms.setdefault(form, set()).add(base)
    return forms


_PREFIXES = ("be", "fore", "mis", "out", "over", "re", "un", "under", "up", "with")  # of understood, rewrote

_BASES = {pos: _by_form(text) for pos, text in _IRREGULAR.items()}


def tokenise(text: str) -> list[str]:
    """Cut a sentence into words, numbers, clitics ('s, n't) and punctuation marks; nothing is dropped."""
    return _TOKEN.findall(text)


def token_spans(text: str) -> list[tuple[int, int]]:
    """The characters (start, end) of each token of `tokenise`, end exclusive."""
    return [found.span() for found in _TOKEN.finditer(text)]


@lru_cache(maxsize=100_000)
def base_forms(word: str, pos: str) -> frozenset[str]:
    """Every base form that a word could be an inflection of, the word itself included; in lower case.

    pos: n v a r. Not all of them are words: base_forms("hoping", "v") is "hop", "hope", "hoping".
    """
    word = word.lower().replace("\u2019", "'")
    bases = {word} | _irregular_bases(word, pos)
    for suffix, ending in _RULES[pos]:
        stem = word[: len(word) - len(suffix)]
        if word.endswith(suffix) and (len(stem) >= 2 or ending == "ie"):
            bases.add(stem + ending)
            doubled = len(stem) > 2 and stem[-1] == stem[-2] and stem[-1] not in "aeiou"
            if pos != "n" and not ending and doubled:
                bases.add(stem[:-1])  # stopped, bigger
    return frozenset(bases)


def _irregular_bases(word: str, pos: str) -> set[str]:
    bases = set(_BASES[pos].get(word, ()))
    for prefix in _PREFIXES if pos == "v" else ():
        if word.startswith(prefix) and len(word) > len(prefix) + 1:
            bases |= {prefix + base for base in _irregular_bases(word.removeprefix(prefix), pos)}
    return bases


def find_lemma(tokens: list[str], lemma: str, pos: str) -> tuple[int, int] | None:
    """Where a lemma stands in a sentence: (first token, one past the last) of its first mention, or None.

    Any word of a lemma of several words (joined by "_") may be inflected. A verb and its particle may be
    apart by up to three tokens ("looked the word up"): then the verb's own token is the target.
    """
    words = tokenise(lemma.replace("_", " ").lower())
    if not words:
        return None
    forms = [base_forms(token, pos) for token in tokens]
    width = len(words)
    for start in range(len(tokens) - width + 1):
        if all(word in forms[start + at] for at, word in enumerate(words)):
            return start, start + width
    if pos == "v" and width == 2:
        lower = [token.lower() for token in tokens]
        for start in range(len(tokens)):
            if words[0] in forms[start] and words[1] in lower[start + 2 : start + 5]:
                return start, start + 1
    return None
