"""Pretraining input the plain way: one example after the other, with Python's `random`.

What the vectorised code must equal in distribution, and what it is measured against.

Source: Tan & Bansal 2019, section 3.1, and the reference code's defaults.
"""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

UNKNOWN, CLS, SEP, MASK = 100, 101, 102, 103  # BERT's


class PlainTokenizer:
    """BERT-uncased WordPiece, character by character, as tokenisers of 2019 did it.

    Args:
        vocabulary: its entries.
    """

    def __init__(self, vocabulary: Sequence[str]) -> None:
        self.ids = {token: number for number, token in enumerate(vocabulary)}

    def __call__(self, text: str, most: int) -> list[int]:
        """[CLS], at most `most` - 2 pieces, [SEP]."""
        pieces = [piece for word in self._words(text) for piece in self._pieces(word)]
        return [CLS, *pieces[: most - 2], SEP]

    def _words(self, text: str) -> list[str]:
        kept = []
        for letter in text:
            if letter.isspace():
                kept.append(" ")
            elif unicodedata.category(letter)[0] != "C":
                kept.append(letter)
        words: list[str] = []
        for word in "".join(kept).lower().split():
            begun = False
            for letter in unicodedata.normalize("NFD", word):
                category = unicodedata.category(letter)
                if category == "Mn":
                    continue
                if category[0] == "P" or (ord(letter) < 127 and category[0] == "S"):
                    words.append(letter)
                    begun = False
                elif begun:
                    words[-1] += letter
                else:
                    words.append(letter)
                    begun = True
        return words

    def _pieces(self, word: str) -> list[int]:
        pieces, start = [], 0
        while start < len(word):
            for end in range(len(word), start, -1):
                found = self.ids.get(word[start:end] if start == 0 else f"##{word[start:end]}")
                if found is not None:
                    break
            else:
                return [UNKNOWN]
            pieces.append(found)
            start = end
        return pieces


class PlainExamples:
    """One example after the other, all of it in memory.

    Args:
        recipe: rates and the most word pieces, as a pretraining recipe has them.
        vocabulary: number of its entries.
        sentences: of each example, a text, cut at each access, or word pieces.
        answers: (ids, scores) of each example.
        images: image of each example.
        regions: features, boxes, ids and scores of all images; None where only text is made.
        draw: where chance comes from.
        tokenizer: cuts texts.
    """

    def __init__(
        self,
        recipe: dict[str, Any],
        vocabulary: int,
        sentences: Sequence[str] | Sequence[list[int]],
        answers: list[tuple[list[int], list[float]]],
        images: list[int],
        regions: Any,
        draw: random.Random,
        tokenizer: PlainTokenizer | None = None,
    ) -> None:
        self.tokenizer = tokenizer
        self.sentences, self.answers, self.images, self.regions = sentences, answers, images, regions
        self.recipe, self.vocabulary, self.draw = recipe, vocabulary, draw

    def sentence(self, index: int) -> tuple[Any, int]:
        """The sentence an example takes, and whether it is its own."""
        if self.draw.random() >= self.recipe["mismatch_rate"]:
            return self.sentences[index], 1
        other = self.draw.randrange(len(self.sentences))
        while self.images[other] == self.images[index]:
            other = self.draw.randrange(len(self.sentences))
        return self.sentences[other], 0

    def words(self, sentence: list[int]) -> tuple[list[int], list[int]]:
        """Word pieces with some hidden, and what stood there."""
        ids, labels = [], []
        for piece in sentence:
            labels.append(-1)
            chance = self.draw.random()
            if piece not in (CLS, SEP) and chance < self.recipe["word_mask_rate"]:
                labels[-1] = piece
                chance /= self.recipe["word_mask_rate"]
                if chance < 0.8:
                    piece = MASK
                elif chance < 0.9:
                    piece = self.draw.randrange(self.vocabulary)
            ids.append(piece)
        return ids, labels

    def answer(self, index: int, matched: int) -> int:
        """One accepted answer, in proportion to its score; -1 for none."""
        ids, scores = self.answers[index]
        if not ids or not matched:
            return -1
        return ids[0] if len(ids) == 1 else self.draw.choices(ids, scores)[0]

    def boxes(self, count: int) -> list[int]:
        """What becomes of each region: 0 left alone, 1 zeroed, 2 replaced, 3 asked for as it is."""
        fates = []
        for _ in range(count):
            fate, chance = 0, self.draw.random()
            if chance < self.recipe["region_mask_rate"]:
                chance /= self.recipe["region_mask_rate"]
                fate = 1 if chance < 0.8 else 2 if chance < 0.9 else 3
            fates.append(fate)
        return fates

    def features(self, image: int) -> tuple[np.ndarray, np.ndarray]:
        """Features with some hidden, and which."""
        features = self.regions.features[image].copy()
        fates = self.boxes(len(features))
        for box, fate in enumerate(fates):
            if fate == 1:
                features[box] = 0.0
            elif fate == 2:
                other = self.images[self.draw.randrange(len(self.images))]
                features[box] = self.regions.features[other, self.draw.randrange(len(features))]
        return features, np.array(fates) > 0

    def text(self, rows: list[int]) -> dict[str, torch.Tensor]:
        """Everything of a batch but its regions, padded to 20."""
        made: dict[str, list[Any]] = {name: [] for name in ("ids", "mask", "labels", "matched", "answer")}
        for index in rows:
            sentence, matched = self.sentence(index)
            if self.tokenizer is not None:
                sentence = self.tokenizer(sentence, self.recipe["max_tokens"])
            ids, labels = self.words(sentence)
            room = self.recipe["max_tokens"] - len(ids)
            made["ids"].append(ids + [0] * room)
            made["mask"].append([1] * len(ids) + [0] * room)
            made["labels"].append(labels + [-1] * room)
            made["matched"].append(matched)
            made["answer"].append(self.answer(index, matched))
        return {name: torch.tensor(np.array(value)) for name, value in made.items()}

    def batch(self, rows: list[int]) -> dict[str, torch.Tensor]:
        """A whole batch."""
        made, whole = self.text(rows), self.regions
        columns: dict[str, list[np.ndarray]] = {name: [] for name in ("features", "original", "masked")}
        labels = ("boxes_norm", "object_ids", "object_scores", "attribute_ids", "attribute_scores")
        columns |= {name: [] for name in labels}
        for index in rows:
            image = self.images[index]
            features, masked = self.features(image)
            columns["features"].append(features)
            columns["masked"].append(masked)
            columns["original"].append(whole.features[image])
            for name in labels:
                columns[name].append(getattr(whole, name)[image])
        return made | {name: torch.from_numpy(np.stack(value)) for name, value in columns.items()}
