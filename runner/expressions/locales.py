"""The names of months and days that patterns need, in the languages that flows ask for most (after CLDR)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from runner.errors import ExpressionError


@dataclass(frozen=True, slots=True)
class Locale:
    """Names in one language; lists of months start in January, lists of days on Monday."""

    months: tuple[str, ...]
    short_months: tuple[str, ...]
    days: tuple[str, ...]
    short_days: tuple[str, ...]
    halves: tuple[str, str] = ("AM", "PM")


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


ENGLISH: Final = Locale(
    _words("January February March April May June July August September October November December"),
    _words("Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec"),
    _words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday"),
    _words("Mon Tue Wed Thu Fri Sat Sun"),
)
_LOCALES: Final = {
    "en": ENGLISH,
    "fr": Locale(
        _words("janvier février mars avril mai juin juillet août septembre octobre novembre décembre"),
        _words("janv. févr. mars avr. mai juin juil. août sept. oct. nov. déc."),
        _words("lundi mardi mercredi jeudi vendredi samedi dimanche"),
        _words("lun. mar. mer. jeu. ven. sam. dim."),
    ),
    "de": Locale(
        _words("Januar Februar März April Mai Juni Juli August September Oktober November Dezember"),
        _words("Jan. Feb. März Apr. Mai Juni Juli Aug. Sept. Okt. Nov. Dez."),
        _words("Montag Dienstag Mittwoch Donnerstag Freitag Samstag Sonntag"),
        _words("Mo. Di. Mi. Do. Fr. Sa. So."),
    ),
    "es": Locale(
        _words("enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre"),
        _words("ene feb mar abr may jun jul ago sept oct nov dic"),
        _words("lunes martes miércoles jueves viernes sábado domingo"),
        _words("lun mar mié jue vie sáb dom"),
        ("a. m.", "p. m."),
    ),
    "it": Locale(
        _words("gennaio febbraio marzo aprile maggio giugno luglio agosto settembre ottobre novembre dicembre"),
        _words("gen feb mar apr mag giu lug ago set ott nov dic"),
        _words("lunedì martedì mercoledì giovedì venerdì sabato domenica"),
        _words("lun mar mer gio ven sab dom"),
    ),
}


def locale_named(tag: str | None) -> Locale:
    """Return the names for a language tag such as `fr` or `de-AT`; English when there is none.

    Raises:
        ExpressionError: `expression.date` when the language is not among those known.
    """
    if tag is None:
        return ENGLISH
    language = tag.replace("_", "-").partition("-")[0].lower()
    if language not in _LOCALES:
        raise ExpressionError(
            "expression.date", f"no names of months and days are known for {tag!r}", hint=f"use {', '.join(_LOCALES)}"
        )
    return _LOCALES[language]
