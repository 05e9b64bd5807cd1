"""VQA accuracy as the official script computes it, and the score of LXMERT's soft labels.

Reference: `vqaEval.py` of the VQA repository, revision a013f00.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lxmert.metrics.checks import check_ids, mean

# "missing proper" pairs. Odd ones are as published: the capital-I entries never match lower-cased
# text, "let's" and "she's" map to themselves, and "somebody'd" goes the wrong way.
_CONTRACTIONS = """
aint ain't, arent aren't, cant can't, couldve could've, couldnt couldn't, couldn'tve couldn't've,
couldnt've couldn't've, didnt didn't, doesnt doesn't, dont don't, hadnt hadn't, hadnt've hadn't've,
hadn'tve hadn't've, hasnt hasn't, havent haven't, hed he'd, hed've he'd've, he'dve he'd've, hes he's,
howd how'd, howll how'll, hows how's, Id've I'd've, I'dve I'd've, Im I'm, Ive I've, isnt isn't,
itd it'd, itd've it'd've, it'dve it'd've, itll it'll, let's let's, maam ma'am, mightnt mightn't,
mightnt've mightn't've, mightn'tve mightn't've, mightve might've, mustnt mustn't, mustve must've,
neednt needn't, notve not've, oclock o'clock, oughtnt oughtn't, ow's'at 'ow's'at, 'ows'at 'ow's'at,
'ow'sat 'ow's'at, shant shan't, shed've she'd've, she'dve she'd've, she's she's, shouldve should've,
shouldnt shouldn't, shouldnt've shouldn't've, shouldn'tve shouldn't've, somebody'd somebodyd,
somebodyd've somebody'd've, somebody'dve somebody'd've, somebodyll somebody'll, somebodys somebody's,
someoned someone'd, someoned've someone'd've, someone'dve someone'd've, someonell someone'll,
someones someone's, somethingd something'd, somethingd've something'd've, something'dve something'd've,
somethingll something'll, thats that's, thered there'd, thered've there'd've, there'dve there'd've,
therere there're, theres there's, theyd they'd, theyd've they'd've, they'dve they'd've, theyll they'll,
theyre they're, theyve they've, twas 'twas, wasnt wasn't, wed've we'd've, we'dve we'd've, weve we've,
werent weren't, whatll what'll, whatre what're, whats what's, whatve what've, whens when's,
whered where'd, wheres where's, whereve where've, whod who'd, whod've who'd've, who'dve who'd've,
wholl who'll, whos who's, whove who've, whyll why'll, whyre why're, whys why's, wont won't,
wouldve would've, wouldnt wouldn't, wouldnt've wouldn't've, wouldn'tve wouldn't've, yall y'all,
yall'll y'all'll, y'allll y'all'll, yall'd've y'all'd've, y'alld've y'all'd've, y'all'dve y'all'd've,
youd you'd, youd've you'd've, you'dve you'd've, youll you'll, youre you're, youve you've
"""
_PROPER: dict[str, str] = dict(pair.split() for pair in _CONTRACTIONS.replace("\n", " ").split(","))
_DIGITS = {
    "none": "0", "zero": "0", "one": "1", "two": "2", "three": "3", "four": "4", "five": "5", "six": "6",
    "seven": "7", "eight": "8", "nine": "9", "ten": "10",
}  # fmt: skip
_ARTICLES = {"a", "an", "the"}
_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_COMMA_IN_NUMBER = re.compile(r"\d,\d")
_FULL_STOP = re.compile(r"\.(?!\d)")
# The reference passes a flag (re.UNICODE = 32) where the count of replacements belongs.
_FULL_STOPS_DELETED = 32


def normalise_answer(text: str) -> str:
    """An answer as the official scorer compares it.

    Punctuation is deleted where the original text has a blank beside it, or anywhere once a
    digit-comma-digit occurs, and becomes a blank elsewhere; full stops not before a digit go (the
    first 32 of them); then lower case, number words to digits, no articles, contractions mended.

    Source: Goyal et al. 2017, official evaluation script.
    """
    working = text
    delete_all = _COMMA_IN_NUMBER.search(text) is not None
    for mark in _PUNCTUATION:
        delete = delete_all or f"{mark} " in text or f" {mark}" in text
        working = working.replace(mark, "" if delete else " ")
    working = _FULL_STOP.sub("", working, count=_FULL_STOPS_DELETED)
    words = (_DIGITS.get(word, word) for word in working.lower().split())
    return " ".join(_PROPER.get(word, word) for word in words if word not in _ARTICLES)


def question_accuracy(prediction: str, answers: Sequence[Mapping[str, Any]]) -> float:
    """The official score of one question, in [0, 1].

    For each person in turn: min(1, number of the others who gave the predicted answer / 3); then
    the mean. Nothing at all is normalised, not even case, when everybody gave one same string.

    Args:
        prediction: the answer to score.
        answers: official answer records; {"answer": str, ...}. Records equal in every field count
            as one person, as in the reference, so `answer_id` must differ.
    """
    texts = [_clean(record["answer"]) for record in answers]
    prediction = _clean(prediction)
    if len(set(texts)) > 1:
        texts = [normalise_answer(text) for text in texts]
        prediction = normalise_answer(prediction)
    records = [{**record, "answer": text} for record, text in zip(answers, texts, strict=True)]
    agreeing = [record for record in records if record["answer"] == prediction]
    # Who is not among the agreeing is left out without effect on their number.
    scores = [
        min(1.0, (len(agreeing) if record["answer"] != prediction else _others(record, agreeing)) / 3)
        for record in records
    ]
    return mean(scores)


def _others(record: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> int:
    return sum(other != record for other in records)


def _clean(text: str) -> str:
    return text.replace("\n", " ").replace("\t", " ").strip()


def score_vqa(
    predictions: Mapping[int, str], annotations: Iterable[Mapping[str, Any]], strict: bool = True
) -> dict[str, float]:
    """Official accuracy: overall, by answer type and by question type.

    Args:
        predictions: question id -> answer.
        annotations: official annotation records, read once.
        strict: refuse predictions for questions that have no annotation.

    Returns:
        `accuracy`, `answer_type/<type>`, `question_type/<type>`; all in [0, 1].

    Raises:
        DataError: ids are missing, or too many.
    """
    scores: list[float] = []
    kinds: dict[str, list[float]] = {}
    seen: list[int] = []
    missing: list[int] = []
    for record in annotations:
        number = record["question_id"]
        seen.append(number)
        if number not in predictions:
            missing.append(number)
            continue
        score = question_accuracy(predictions[number], record["answers"])
        scores.append(score)
        for kind in ("answer_type", "question_type"):
            kinds.setdefault(f"{kind}/{record[kind]}", []).append(score)
    check_ids(predictions, seen, missing, strict)
    return {"accuracy": mean(scores), **{name: mean(kinds[name]) for name in sorted(kinds)}}


def score_labels(
    predictions: Mapping[str, str], labels: Iterable[tuple[str, Mapping[str, float]]]
) -> dict[str, float]:
    """LXMERT's score: the soft label of the predicted answer, and the best that any answer could get.

    Args:
        predictions: id -> answer.
        labels: (id, {answer: score}) of each question; the mapping may be empty.

    Returns:
        `label_score` and `oracle`, in [0, 1].

    Raises:
        DataError: ids are missing, or too many.
    """
    scores: list[float] = []
    best: list[float] = []
    seen: list[str] = []
    missing: list[str] = []
    for number, label in labels:
        seen.append(number)
        if number not in predictions:
            missing.append(number)
            continue
        scores.append(label.get(predictions[number], 0.0))
        best.append(max(label.values(), default=0.0))
    check_ids(predictions, seen, missing)
    return {"label_score": mean(scores), "oracle": mean(best)}
