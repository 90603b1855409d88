"""The definition in what a chat model wrote: without its thinking, politeness, labels, markup and quotation marks."""

import json
import re

# A definition is far shorter. What is longer is not searched to its end.
MOST_CHARACTERS = 4000
# Typographic marks are read as those of a keyboard.
_MARKS = str.maketrans(
    {
        **dict.fromkeys("\u2018\u2019\u201a\u201b\u2039\u203a\u0060\u00b4", "'"),
        **dict.fromkeys("\u201c\u201d\u201e\u201f\u00ab\u00bb", '"'),
        **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015", "-"),
        **{"\uff1a": ":", "\u2192": ":", "\u2022": "-", "\u2023": "-", "\u25e6": "-", "\u00a0": " "},
    }
)

# What models put around their thoughts. Some chat templates leave out the opening tag.
_TAG = r"(?:think(?:ing)?|thoughts?|reasoning|reflection|analysis|scratchpad)\b"
_OPENED = re.compile(rf"<\s*{_TAG}[^<>]*>|<\|channel\|>\s*(?:analysis|commentary)", re.IGNORECASE)
_CLOSED = re.compile(rf"<\s*/\s*{_TAG}\s*>|<\|channel\|>\s*final\s*<\|message\|>", re.IGNORECASE)
_CONTROL = re.compile(r"<\|[^|<>]*\|>|</?s>|<(?:start|end)_of_turn>|<eos>|\[/?INST\]", re.IGNORECASE)

_FENCE = re.compile(r"^[ \t]*(?:'''|~~~)[^\n']*$", re.MULTILINE)
_HTML = re.compile(r"</?(?:[biup]|em|strong|[bh]r|[ou]l|li|div|span|h[1-6]|code|blockquote)\s*/?>", re.IGNORECASE)
_LINE_MARK = re.compile(r"^[ \t]*(?:#{1,6}|[-*+>]|\(?\d{1,2}[.)]|\(?[a-h]\))[ \t]+", re.MULTILINE)
_LINK = re.compile(r"\[([^\]\n]+)\]\([^)\n]*\)")
_BOXED = re.compile(r"\\boxed\{(.*)\}", re.DOTALL)
_EMPHASIS = re.compile(r"(\*{1,3}|(?<!\w)_{1,3})(?=\S)([^\n]+?)(?<=\S)\1(?!\w)")

_POS = (
    r"(?:(?:countable|uncountable|plural|proper|transitive|intransitive|phrasal|mass) )?"
    r"(?:noun|verb|adjective|adverb|n|v|vb|adj|adv)\b\.?(?:, ?[\w. ]{1,20})?"
)
_END = r"\s*(?:[:=]|-+>?(?=\s))\s*"
_SOUND = r"(?: ?(?:/[^/\n]{1,40}/|\[[^\]\n]{1,40}\]))?"
_KIND = r"(?:(?:the|a|an) )?(?:(?:target )?(?:word|term|noun|verb|adjective|adverb|phrase|expression) )?"
_HERE = r"(?:,? (?:here|(?:(?:as )?used )?in [^\n]{1,200}?),?)? "
_MEANS = r"(?:means|refers to|denotes|signifies|describes|stands for|(?:is|can be|may be) defined as)\b[:,]?\s*"
# What may precede a definition, one after another.
_BEFORE = (
    r"(?:sure(?: thing)?|certainly|of course|absolutely|okay|ok|all ?right|gladly|understood|got it|no problem|"
    r"(?:great|good) question|(?:i'd be )?happy to help|yes|hello|hi|thank you)\s*[!.,:;-]+\s*(?:so\b[, ]*)?",
    r"(?:here(?:'s| is| are| you go)|below is|the following is|this is)\b[^:\n]{0,300}:\s*",
    r"here(?:'s| is)\b[^:\n]{0,120}\b(?:definition|meaning|gloss)\b[^:\n]{0,120}\n\s*",
    r"(?:assistant|ai|model|bot|user):\s*",
    r"(?:(?:an?|the|my|your|final|short|brief|concise|simple|english|dictionary|possible|likely) ){0,5}"
    r"(?:definition|meaning|gloss|answer|output|response|explanation|sense)"
    rf"(?: (?:of|for|in|here|as)\b[^:\n]{{0,200}})?(?:{_END}| is:\s*)",
    r"(?:the )?(?:(?:short|dictionary) )*(?:definition|meaning) of\b[^:\n]{1,200}? is\b[:,]?\s*",
    rf"[^\s:.,;()][^:.;()\n]{{0,60}}?{_SOUND} ?[(\[] ?{_POS} ?[)\]]{_SOUND}(?:{_END}|\s+)(?=\S)",
    rf"[(\[] ?{_POS} ?[)\]](?:{_END}|\s*)",
    rf"{_POS}(?:{_END}|\s*\n\s*)",
    r"(?:in|as used in|within) (?:this|that|the|your) (?:given )?(?:context|phrase|sentence|case|usage|text)\b"
    r"[^,:\n]{0,200}[,:][\"']?\s+",
    r"(?:in|as used in) [\"'][^\n]{1,200}?[\"'],\s*",
    rf"{_KIND}[\"'][^\"'\n]{{1,60}}[\"'](?: \([^)\n]{{1,30}}\))?{_HERE}(?:{_MEANS}|is\b[:,]?\s*)",
)
_PRECEDING = [re.compile(pattern, re.I) for pattern in _BEFORE]
# A line that says that the definition follows, wherever it is.
_LABEL = re.compile(
    r"^[ \t]*(?:(?:short|brief|concise|dictionary|english|my|the) ){0,3}definition[ \t]*:\s*(?=\S)", re.I | re.M
)
# What may follow a definition.
_BEHIND = re.compile(
    r"(?:\n\s*|(?<=[.!?])\s+)(?:examples?|example sentence|usage|synonyms?|antonyms?|notes?|context|etymology|origin|"
    r"explanation|part of speech|source|pronunciation|e\.g\.|for example|for instance)\s*[:,(-].*$"
    r"|(?:^|\s+)(?:i hope (?:this|that|it)|(?:please )?let me know|feel free|if you(?: have| need| want|'d like)|"
    r"would you like|do you want|is there anything|happy to help)\b.*$"
    rf"|\s*[(\[]{_POS}[)\]]\.?\s*$",
    re.I | re.S,
)


def definition_text(text: str, word: str = "") -> str:
    """The definition on one line; an empty text where there is none.

    text: an answer as it came. word: that was asked about, if known.
    """
    text = _without_markup(_definition_in_json(_read(text)))
    label = _LABEL.search(text)
    text = _BEHIND.sub("", _without_labels(text[label.end() :] if label else text, word))
    paragraph = next(filter(str.strip, re.split(r"\n\s*\n", text)), "")
    line = _unquoted(_without_labels(_unquoted(" ".join(paragraph.split())), word))
    return line if any(map(str.isalpha, line)) else ""


def is_list(text: str) -> bool:
    """Whether an answer lists several definitions: nobody knows which of them is meant."""
    text = _definition_in_json(_read(text))
    return len(_LINE_MARK.findall(text)) > 1 or re.search(r"(?:^|\s)1[.)]\s.*\s2[.)]\s", text, re.S) is not None


def _read(text: str) -> str:
    """A text without the model's thinking, control tokens and characters that are not printed."""
    closed, opened = list(_CLOSED.finditer(text)), _OPENED.search(text)
    behind = text[closed[-1].end() :] if closed else text
    behind = behind[: still_open.start()] if (still_open := _OPENED.search(behind)) else behind
    text = behind if behind.strip() or not opened else text[: opened.start()]
    text = _CONTROL.sub(" ", text.translate(_MARKS)[:MOST_CHARACTERS])
    return "".join(character for character in text if character.isprintable() or character.isspace()).strip()


def _definition_in_json(text: str) -> str:
    """The definition of an answer that is a JSON object with one; else the text."""
    try:
        value = json.loads(_FENCE.sub("", text))
    except (ValueError, RecursionError):
        return text
    texts = {name.lower(): one for name, one in value.items() if isinstance(one, str)} if type(value) is dict else {}
    if len(texts) == 1:
        return next(iter(texts.values()))
    return next((texts[name] for name in ("definition", "meaning", "gloss", "answer") if name in texts), text)


def _without_markup(text: str) -> str:
    for pattern in (_LINK, _BOXED):
        text = pattern.sub(r"\1", text)
    text = _LINE_MARK.sub("", _HTML.sub(" ", _FENCE.sub("", text)))
    for _ in range(3):  # emphasis within emphasis
        text = _EMPHASIS.sub(r"\2", text)
    return text


def _without_labels(text: str, word: str) -> str:
    before = [*_PRECEDING, *(re.compile(pattern, re.I) for pattern in _of_word(word) if word.lower() in text.lower())]
    for _ in range(8):
        start = text = text.strip()
        for pattern in before:
            found = pattern.match(text)
            text = text[found.end() :] if found else text
        if text == start:
            break
    return text


def _of_word(word: str) -> list[str]:
    """What precedes a definition and names the word itself."""
    parts = re.split(r"[\s_-]+", word.translate(_MARKS).strip())
    if parts == [""]:
        return []
    name = _KIND + r"[\"']*" + r"[\s_-]+".join(map(re.escape, parts)) + r"[\"']*"
    return [
        rf"{name}{_SOUND}(?: ?[,(\[-]* ?{_POS} ?[)\]]?)?(?:{_END}|\s*\n\s*|(?<=\w\.) )(?=\S)",
        rf"{name}(?: \([^)\n]{{1,60}}\))?{_HERE}{_MEANS}",
    ]


def _unquoted(line: str) -> str:
    """The line without quotation marks around all of it."""
    for mark in "\"'":
        inner = line.rstrip(".")
        if len(inner) > 2 and inner[0] == inner[-1] == mark and mark not in inner[1:-1]:
            return inner[1:-1].strip()
    return line
