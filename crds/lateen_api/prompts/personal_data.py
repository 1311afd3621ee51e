# SPDX-License-Identifier: Apache-2.0
"""Personal data in texts, replaced by typed placeholders. Pure; the step RedactPII of `post_processing.py`.

Found: e-mail addresses, IBANs (checksum), card numbers (Luhn), IP addresses of both versions, and telephone numbers that
are international, North American or begin with a trunk 0. Not found: names, postal addresses, ids of states, numbers
written in words or with invisible characters in between (put NormalizeUnicode first), a card number that is glued to
other digits. Taken for it though it is not: a version of four parts such as 1.2.3.4, `git@host.org`, one random number
of 13 to 19 digits in ten.

Every expression is linear: what it scans without a match is bounded, or starts only where such a run starts.
"""

import re
from collections.abc import Iterator, Sequence
from ipaddress import ip_address

EMAIL = "[EMAIL]"
PHONE = "[PHONE]"
IBAN = "[IBAN]"
CREDIT_CARD = "[CREDIT_CARD]"
IP_ADDRESS = "[IP_ADDRESS]"

_EMAIL = re.compile(r"(?<![\w.+%'-])[\w.+%'-]++@(?:[^\W_][\w-]{0,62}\.)+[^\W\d_]{2,24}(?![\w-])")
_IBAN_HEAD = re.compile(r"(?<![^\W_])[A-Za-z]{2}[0-9]{2}(?:[ -]?[A-Za-z0-9]){11,30}")
_DIGITS = re.compile(r"(?<![\w.,])\d(?:[ -]?\d)*+(?![.,]?\w)")
_IPV4 = re.compile(r"(?<![\w.])(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?!\.?\w)")
_IPV6 = re.compile(r"(?<![\w:.])(?=[0-9a-fA-F]{0,4}:)[0-9a-fA-F:.]{2,45}(?:%\w{1,15})?(?![\w:])")
_PHONES = (
    re.compile(r"(?<![\w+])(?:\+|00)[1-9](?:[ ./-]{0,2}(?:[0-9]|\([0-9]{1,4}\))){5,14}(?!\d)"),
    re.compile(r"(?<![\w.+-])(?:1[ .-])?(?:\([2-9]\d\d\) ?|[2-9]\d\d[ .-])[2-9]\d\d[ .-]\d{4}(?![\w-])"),
    re.compile(
        r"(?<![\w.,:/-])(?:0[1-9]\d{0,4}|\(0[1-9]\d{0,4}\))[ /-]{1,3}\d{3,9}(?:[ -]\d{2,6}){0,4}(?![\w/:.-]\d|\w)"
    ),
)
_PHONE_DIGITS = range(8, 16)
_CARD_DIGITS = range(13, 20)
_CARD_GROUPS = frozenset(
    {(4, 4, 4, 4), (4, 4, 4, 4, 1), (4, 4, 4, 4, 2), (4, 4, 4, 4, 3), (4, 6, 5), (4, 6, 4), (4, 4, 4, 1)}
)
_MOST_CARD_GROUPS = 5
_IBAN_TABLE = (
    "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DJ27 DK18 DO28 "
    "EE20 EG29 ES24 FI18 FK18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HN28 HR21 HU28 IE22 IL23 IQ23 IS26 "
    "IT27 JO30 KW30 KZ20 LB28 LC32 LI21 LT20 LU20 LV21 LY25 MC27 MD24 ME22 MK19 MN20 MR27 MT31 MU30 NI28 "
    "NL18 NO15 OM23 PK24 PL28 PS29 PT25 QA29 RO24 RS22 RU33 SA24 SC31 SD18 SE24 SI19 SK24 SM27 SO23 ST25 "
    "SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20 YE30"
)
_IBAN_LENGTHS = {country: int(length) for country, length in re.findall("([A-Z]{2})([0-9]{2})", _IBAN_TABLE)}
"""Characters of an IBAN by country, of the registry of SWIFT."""


def redact(text: str) -> str:
    """The text with placeholders for what was found: `[EMAIL]`, `[IBAN]`, `[CREDIT_CARD]`, `[IP_ADDRESS]`, `[PHONE]`."""
    if "@" in text:
        text = _EMAIL.sub(EMAIL, text)
    text = _IBAN_HEAD.sub(_iban, text)
    text = _DIGITS.sub(_cards, text)
    if ":" in text:
        text = _IPV6.sub(_address, text)
    text = _IPV4.sub(_address, text)
    for pattern in _PHONES:
        text = pattern.sub(_phone, text)
    return text


def _iban(match: re.Match[str]) -> str:
    found = match.group()
    length = _IBAN_LENGTHS.get(found[:2].upper())
    if length is None:
        return found
    end = _end_of(found, length)
    compact = re.sub("[ -]", "", found[:end]).upper()
    rest = match.string[match.start() + end : match.start() + end + 1]
    if len(compact) != length or rest.isalnum() or not _passes_mod_97(compact):
        return found
    return IBAN + found[end:]


def _end_of(text: str, characters: int) -> int:
    """Where the first so many letters and digits end; the text's end if it has fewer."""
    for position, character in enumerate(text):
        characters -= character.isalnum()
        if characters == 0:
            return position + 1
    return len(text)


def _passes_mod_97(iban: str) -> bool:
    return int("".join(str(int(character, 36)) for character in iban[4:] + iban[:4])) % 97 == 1


def _cards(match: re.Match[str]) -> str:
    """A run of digits with the card numbers in it replaced: one group of digits, or groups as they stand on cards."""
    groups = list(re.finditer(r"\d+", match.group()))
    if sum(len(group.group()) for group in groups) < _CARD_DIGITS.start:
        return match.group()
    parts: list[str] = []
    written = position = 0
    while position < len(groups):
        taken = _card_at([group.group() for group in groups[position : position + _MOST_CARD_GROUPS]])
        if taken:
            parts += [match.group()[written : groups[position].start()], CREDIT_CARD]
            written = groups[position + taken - 1].end()
        position += taken or 1
    return "".join([*parts, match.group()[written:]])


def _card_at(groups: Sequence[str]) -> int:
    """How many of the groups, from the first, are a card number; the longest there is, 0 if none."""
    for count in range(len(groups), 0, -1):
        digits = "".join(groups[:count])
        is_shaped = count == 1 or tuple(map(len, groups[:count])) in _CARD_GROUPS
        if is_shaped and len(digits) in _CARD_DIGITS and digits[0] in "23456" and _passes_luhn(digits):
            return count
    return 0


def _passes_luhn(digits: str) -> bool:
    return sum(_luhn(digits)) % 10 == 0


def _luhn(digits: str) -> Iterator[int]:
    for position, digit in enumerate(reversed(digits)):
        doubled = int(digit) * (1 + position % 2)
        yield doubled - 9 if doubled > 9 else doubled


def _address(match: re.Match[str]) -> str:
    found = match.group()
    candidate = found.rstrip(".").partition("%")[0]
    if not any(character.isdigit() for character in candidate):
        return found
    try:
        ip_address(candidate)
    except ValueError:
        return found
    return IP_ADDRESS + found[len(found.rstrip(".")) :]


def _phone(match: re.Match[str]) -> str:
    digits = sum(character.isdigit() for character in match.group())
    return PHONE if digits in _PHONE_DIGITS else match.group()
