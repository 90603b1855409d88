"""Words of English sentences: cut into tokens, and brought back to the forms a dictionary lists.

Suffix rules and irregular forms do what WordNet's `morphy` does. Its exception lists, which some archives of WordNet
lack, are read into the inventory (`Inventory.base_forms`). A form gives every base it could have; the caller knows
which of them are lemmas.
"""

import re
from collections.abc import Callable
from functools import lru_cache

from polclip.corpora.spellings import plain

_WORD = r"\w[\w\u00ad\u200b-\u200d\u2060\ufeff\u0300-\u036f]*"  # with soft hyphens and combining accents inside
_APOSTROPHE = "['\u2018\u2019\u02bc\uff07]"
_CLITIC = rf"{_APOSTROPHE}(?:s|re|ve|ll|d|m|em)\b"
# A host is cut at 64 characters a label, and at six labels: hostile texts would else be read again and again.
_ADDRESS = r"""
    (?:https?://|ftp://|www\.) [^\s<>"]* [^\s<>".,;:!?)\]}'\u2019\u201d]
  | [\w.+-]{1,64} @ [a-z0-9-]{1,63} (?:\.[a-z0-9-]{1,63}){1,5}
  | (?:[a-z0-9-]{1,63}\.){1,5}
    (?:(?:com|org|net|edu|gov|mil|info|io|(?:co|ac|org|gov)\.[a-z]{2}) \b (?!\.\w) | [a-z]{2} (?=/\w))
    (?:/ [^\s<>"]* [^\s<>".,;:!?)\]}'\u2019\u201d])?
"""
_CONTRACTION = rf"""
    (?:ca|wo|sha|ai|do|does|did|is|are|was|were|have|has|had|could|would|should|might|must|need)\ n{_APOSTROPHE}t\b
  | \w+n{_APOSTROPHE}t\b (?:{_CLITIC})*
  | (?:i|you|he|she|it|we|they|that|this|these|those|there|here|who|what|where|when|why|how|let|y
      |could|would|should|might|must|may|will|can|not)
    (?:{_APOSTROPHE}(?:s|re|ve|ll|d|m|all)\b)+
  | {_APOSTROPHE}(?:tis|twas|twere|twill)\b
"""
_TOKEN = re.compile(
    rf"""
      {_ADDRESS}
    | (?:[^\W\d_]\.){{2,}}                            # U.S.A., a.m.
    | (?-i:[A-Z][a-z]?\.(?:[A-Z][a-z]{{0,4}}\.)+)      # Ph.D., B.Sc.
    | (?-i:[A-Z][a-z]?(?:\.[A-Z][a-z]{{0,2}})+\b)      # Ph.D, U.S
    | {_CONTRACTION}
    | n{_APOSTROPHE}t\b | {_CLITIC}                    # clitics of other words are tokens of their own
    | \d+(?:[.,:/]\d+)*(?:st|nd|rd|th|s)?\b           # 1,000  3.14  10:30
    | [^\W\d_]/[^\W\d_]\b                            # w/o, n/a
    | {_WORD}(?:                                     # words, with inner hyphens and apostrophes: o'clock
        {_APOSTROPHE}?[-\u2010\u2011&]{_WORD} | {_APOSTROPHE}(?!(?:s|re|ve|ll|d|m|em|t)\b){_WORD}
      )*
    | [^\w\s]
    """,
    re.VERBOSE | re.IGNORECASE,
)
_NO_LEMMA = re.compile(f"(?:{_ADDRESS}|{_CONTRACTION}|n't|{_CLITIC})", re.VERBOSE | re.IGNORECASE)

_SUFFIXES = {  # as "inflected:base"
    "n": "s: ses:s xes:x zes:z ches:ch shes:sh oes:o men:man ies:y ves:f ves:fe ae:a i:us a:um es:is "
    "ices:ex ices:ix mata:ma hedra:hedron zoa:zoan zoa:zoon eaux:eau nges:nx staves:staff sful:ful zzes:z "
    "feet:foot teeth:tooth mice:mouse lice:louse children:child people:person",
    "v": "s: es: ies:y ed: ed:e ied:y ing: ing:e ying:ie cked:c cking:c",
    "a": "er: er:e est: est:e ier:y iest:y",
    "r": "er: er:e est: est:e ier:y iest:y",
}
_RULES = {pos: [tuple(rule.split(":")) for rule in rules.split()] for pos, rules in _SUFFIXES.items()}

# base and its irregular forms; what the suffix rules find by themselves is left out
_IRREGULAR = {
    "v": """
        be am are is was were been being; have has had; do does did done; go goes went gone;
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
        write wrote written; can could; will would; may might; shall should; lade laden; cleave clove
        cloven cleft; stave stove; bereave bereft; rive riven; shrive shrove shriven; hamstring hamstrung;
        waylay waylaid; inlay inlaid; interweave interwove interwoven; dive dove; sneak snuck; backslide
        backslid; babysit babysat; work wrought; clothe clad; bless blest; curse curst; melt molten; shave shaven; chide
        chid chidden; floodlight floodlit; spotlight spotlit; interbreed interbred; crossbreed crossbred; browbeat
        browbeaten; gainsay gainsaid; forswear forswore forsworn; backbite backbit backbitten; typewrite typewrote
        typewritten; ghostwrite ghostwrote ghostwritten; countersink countersank countersunk; prepay prepaid; spellbind
        spellbound; beget begat; sightsee sightsaw sightseen; heave hove
    """,
    "n": """
        child children; foot feet; goose geese; louse lice; mouse mice; ox oxen; tooth teeth; person
        people; die dice; brother brethren; penny pence; datum data; medium media; phenomenon phenomena;
        criterion criteria; index indices; appendix appendices; matrix matrices; vertex vertices; axis
        axes; genus genera; opus opera; corpus corpora; stratum strata; cherub cherubim; beau beaux;
        bureau bureaux; plateau plateaux; passerby passersby; man men; woman women; quiz quizzes; bus
        busses; gas gasses; automaton automata; mitochondrion mitochondria; ganglion ganglia; stigma stigmata; stamen
        stamina; thorax thoraces; calyx calyces; codex codices; graffito graffiti; virtuoso virtuosi; libretto libretti;
        paparazzo paparazzi; concerto concerti; tempo tempi; taxon taxa; polyhedron polyhedra; epiphenomenon
        epiphenomena; halfpenny halfpence; chateau chateaux; milieu milieux; adieu adieux; iris irides; femur femora;
        larynx larynges; kibbutz kibbutzim; seraph seraphim; aide-de-camp aides-de-camp
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


# What a contraction has in place of its verb's own form.
_CONTRACTED = {"ca": "can", "wo": "will", "sha": "shall", "ai": "be"}
_CLITICS = {"re": "be", "m": "be", "ve": "have", "ll": "will"}


def tokenise(text: str) -> list[str]:
    """Cut a sentence into words, numbers and punctuation marks; nothing is dropped.

    Addresses of the web and of e-mail, contractions (can't, we're) and abbreviations (U.S., Ph.D.) are one token each.
    Behind other words a clitic is a token of its own: Bill 's.
    """
    return _TOKEN.findall(text)


def token_spans(text: str) -> list[tuple[int, int]]:
    """The characters (start, end) of each token of `tokenise`, end exclusive."""
    return [found.span() for found in _TOKEN.finditer(text)]


def has_no_lemma(token: str) -> bool:
    """Whether a token is a contraction, a clitic, or an address of the web or of e-mail."""
    return not token.isalpha() and _NO_LEMMA.fullmatch(token) is not None


@lru_cache(maxsize=100_000)
def base_forms(word: str, pos: str) -> frozenset[str]:
    """Every base form that a word could be an inflection of, the word itself included; in lower case.

    pos: n v a r. Not all of them are words: base_forms("hoping", "v") is "hop", "hope", "hoping".
    """
    word = plain(word).lower()
    bases = {word} | _irregular_bases(word, pos)
    if pos == "v" and "'" in word:
        bases |= _bases_of_contraction(word)
    for suffix, ending in _RULES[pos]:
        if suffix == "s" and word.endswith("ss"):  # boss, pass
            continue
        stem = word[: len(word) - len(suffix)]
        if word.endswith(suffix) and (len(stem) >= 2 or ending == "ie"):
            bases.add(stem + ending)
            doubled = len(stem) > 2 and stem[-1] == stem[-2] and stem[-1] not in "aeiou"
            if pos != "n" and not ending and doubled:
                bases.add(stem[:-1])  # stopped, bigger
    return frozenset(bases)


def _bases_of_contraction(word: str) -> frozenset[str]:
    """The verb of a contraction, in its base forms: of can't, won't, isn't, we're."""
    if word.endswith("n't"):
        verb = word.removesuffix("n't").strip()
        return base_forms(_CONTRACTED.get(verb, verb), "v")
    verb = _CLITICS.get(word.rpartition("'")[2])
    return frozenset({verb} if verb and has_no_lemma(word) else ())


def _irregular_bases(word: str, pos: str) -> set[str]:
    bases = set(_BASES[pos].get(word, ()))
    for prefix in _PREFIXES if pos == "v" else ():
        if word.startswith(prefix) and len(word) > len(prefix) + 1:
            bases |= {prefix + base for base in _irregular_bases(word.removeprefix(prefix), pos)}
    return bases


def find_lemma(
    tokens: list[str], lemma: str, pos: str, bases: Callable[[str, str], frozenset[str]] = base_forms
) -> tuple[int, int] | None:
    """Where a lemma stands in a sentence: (first token, one past the last) of its first mention, or None.

    Any word of a lemma of several words (joined by "_") may be inflected. A verb and its particle may be
    apart by up to three tokens ("looked the word up"): then the verb's own token is the target.
    bases: the base forms of a word; `Inventory.base_forms` knows WordNet's exceptions too.
    """
    words = tokenise(lemma.replace("_", " ").lower())
    if not words:
        return None
    forms = [bases(token, pos) for token in tokens]
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
