"""Language: the only place that knows in which language a text is, by py3langid, on this machine.

Invariant: a text is dropped only where another language is sure; what is too short to tell stays.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from synthkd.errors import ConfigError, MissingExtra
from synthkd.filters.parts import Of, TextRule, checked_of

if TYPE_CHECKING:
    from synthkd.filters.rules import Filter

_LOOKED_AT = 4000
_LETTER = re.compile(r"[^\W\d_]")
_NO_LANGUAGE = "zxx"
_ALSO = {"zh": ("wuu", "yue"), "no": ("nn",), "ar": ("ary", "arz"), "sr": ("hr", "bs"), "ku": ("sdh",), "uz": ("uzs",)}
"""What the identifier tells apart and few who ask for the first would want dropped."""


def language(*codes: str, sure: float = 0.5, of: Of = "completion") -> Filter[Any]:
    """Drop a text that is surely in a "wrong language"; one that is too short to tell stays, and so does bare code.

    Args:
        codes: The languages to keep, as ISO 639 has them: `en`, `zh` (Cantonese and Wu included), `de`, ...
        sure: Probability, 0 to 1, from which on another language counts.
        of: Which text is judged, by its first 4,000 characters; see `Of`.

    Raises:
        MissingExtra: py3langid is not installed.
        ConfigError: No code, or one that py3langid does not know.
    """
    if not codes:
        raise ConfigError("language() needs at least one language to keep, such as language('en').")
    if not 0 <= sure <= 1:
        raise ConfigError(f"language(sure={sure!r}): expected a probability, 0 to 1.")
    checked_of(of, "language")
    known = set(_identifier().labels)
    if unknown := sorted(set(codes) - known):
        raise ConfigError(
            f"language({unknown[0]!r}): not a language known here; expected of {', '.join(sorted(known))}."
        )
    return _Language(of, codes, sure)


@dataclass(frozen=True)
class _Language(TextRule):
    codes: tuple[str, ...]
    sure: float

    def _reason(self, text: str) -> str | None:
        start = text[:_LOOKED_AT]
        if not _LETTER.search(start):
            return None
        found, probability = _identifier().classify(start)
        wanted = {_NO_LANGUAGE, *self.codes, *(other for code in self.codes for other in _ALSO.get(code, ()))}
        return "wrong language" if found not in wanted and probability >= self.sure else None


@lru_cache(maxsize=1)
def _identifier() -> Any:
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError:
        raise MissingExtra("py3langid", "filters") from None
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
