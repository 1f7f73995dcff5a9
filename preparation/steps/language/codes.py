"""Codes of the languages that can be identified: ISO 639-1, and ISO 639-3 without one of those."""

from __future__ import annotations

import difflib
from collections.abc import Mapping

_CLD2_LANGUAGES = """
    aa ab af ak am ar as ay az ba be bg bh bi bn bo br bs ca ceb chr co crs cs cy da de dv
    dz el en eo es et eu fa fi fj fo fr fy ga gd gl gn gu gv ha haw he hi hmn hr ht hu hy ia
    id ie ig ik is it iu ja jv ka kha kk kl km kn ko ks ku ky la lb lg lif ln lo lt lv mfe
    mg mi mk ml mn mr ms mt my na ne nl nn no nr nso ny oc om or pa pl ps pt qu rm rn ro ru
    rw sa sco sd sg si sk sl sm sn so sq sr ss st su sv sw syr ta te tg th ti tk tl tlh tn
    to tr ts tt ug uk ur uz ve vi vo war wo xh yi yo za zh zu
"""
CLD2_LANGUAGES = frozenset(_CLD2_LANGUAGES.split())
"""Languages that CLD2 identifies (pycld2's `DETECTED_LANGUAGES`), after `CLD2_SPELLINGS`."""
_FASTTEXT_LANGUAGES = """
    af als am an ar arz as ast av az azb ba bar bcl be bg bh bn bo bpy br bs bxr ca cbk ce
    ceb ckb co cs cv cy da de diq dsb dty dv el eml en eo es et eu fa fi fr frr fy ga gd gl
    gn gom gu gv he hi hif hr hsb ht hu hy ia id ie ilo io is it ja jbo jv ka kk km kn ko
    krc ku kv kw ky la lb lez li lmo lo lrc lt lv mai mg mhr min mk ml mn mr mrj ms mt mwl
    my myv mzn nah nap nds ne new nl nn no oc or os pa pam pfl pl pms pnb ps pt qu rm ro ru
    rue sa sah sc scn sco sd sh si sk sl so sq sr su sv sw ta te tg th tk tl tr tt tyv ug uk
    ur uz vec vep vi vls vo wa war wuu xal xmf yi yo yue zh
"""
FASTTEXT_LANGUAGES = frozenset(_FASTTEXT_LANGUAGES.split())
"""Languages that fastText's `lid.176` identifies.

https://fasttext.cc/docs/en/language-identification.html"""
LANGUAGES = CLD2_LANGUAGES | FASTTEXT_LANGUAGES
UNDETERMINED = "und"
"""Code of ISO 639-2 for a text whose language is not determined."""
CLD2_SPELLINGS: Mapping[str, str] = {"iw": "he", "jw": "jv", "zh-Hant": "zh"}
"""Former codes that CLD2 gives, and Chinese in traditional characters -> code here."""


def closest(code: str) -> list[str]:
    """Return the codes that a person may have meant, such as `pt` for `pt-BR` and `por`."""
    plain = code.lower().replace("_", "-").split("-")[0]
    starts = [plain[:length] for length in (3, 2) if plain[:length] in LANGUAGES]
    similar = difflib.get_close_matches(plain, sorted(LANGUAGES), n=3, cutoff=0.5)
    return list(dict.fromkeys([*starts, *similar]))
