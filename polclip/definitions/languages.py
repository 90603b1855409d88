"""Is a definition in the language that it was asked for in?"""

from functools import cache

from py3langid.langid import MODEL_FILE, LanguageIdentifier

# Short texts say little: one is taken for another language only where its own is as improbable as this.
IMPROBABLE = 0.01


def in_language(text: str, language: str) -> bool:
    """Whether a text may be in a language (ISO 639-1), by py3langid's naive Bayes over byte n-grams.

    Of 20,000 glosses of WordNet 37 are taken for another language than English.
    """
    return dict(_identifier().rank(text))[language] >= IMPROBABLE


def known_languages() -> list[str]:
    return sorted(_identifier().labels)


@cache
def _identifier() -> LanguageIdentifier:
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
