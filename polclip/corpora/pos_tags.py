"""Parts of speech as others write them: WordNet's letters, Universal and Penn tags, and their English names."""

_TAGS = {
    "n": "n noun propn nn nns nnp nnps",
    "v": "v verb aux vb vbd vbg vbn vbp vbz md",
    "a": "a s adj adjective jj jjr jjs",
    "r": "r adv adverb rb rbr rbs wrb",
}
_POS = {tag: pos for pos, tags in _TAGS.items() for tag in tags.split()}
ALLOWED = "n v a r, or a tag such as NOUN PROPN VERB AUX ADJ ADV, NN VBD JJ RB"


def wordnet_pos(tag: str) -> str | None:
    """n, v, a or r for a part of speech in any of these notations, in capital letters or not; None for others.

    Satellite adjectives ("s") are "a".
    """
    return _POS.get(tag.strip().lower())
