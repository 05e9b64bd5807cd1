"""WordPiece: texts to token ids as BERT-uncased has them, and the training of a vocabulary.

Encoding is Hugging Face `tokenizers`, configured here. Training is ours: the library's trainer
numbers the pieces in the order of a randomly seeded hash map, so that two runs differ.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import BertProcessing

from lxmert.errors import DataError
from lxmert.files import atomic_write_text, explain_os_error

PAD, UNKNOWN, START, END, MASK = SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_MAX_WORD_CHARACTERS = 100
_CONTINUED = "##"


class WordPieceTokenizer:
    """BERT-uncased WordPiece over a vocabulary.

    Control characters go, blanks fold, CJK characters stand alone, letters lose case and accents,
    words split at punctuation and then into the longest pieces the vocabulary holds.

    Attributes:
        tokens: every token; position = id.
    """

    def __init__(self, tokens: Sequence[str], source: str = "vocabulary") -> None:
        """Checks the tokens and builds the encoder.

        Args:
            tokens: the vocabulary in id order.
            source: what to name in errors.

        Raises:
            DataError: a special token is missing, [PAD] is not 0, or a token occurs twice.
        """
        self.tokens = list(tokens)
        ids = {token: number for number, token in enumerate(self.tokens)}
        if len(ids) != len(self.tokens):
            twice = next(token for token, times in Counter(self.tokens).items() if times > 1)
            raise DataError(f"{source}: token {twice!r} occurs twice. Write the file again.")
        absent = [token for token in SPECIAL_TOKENS if token not in ids]
        if absent:
            raise DataError(f"{source}: {', '.join(absent)} missing. Is it a BERT vocabulary?")
        if ids[PAD] != 0:
            raise DataError(f"{source}: [PAD] is token {ids[PAD]}, and must be token 0.")
        self._ids = ids
        model = WordPiece(ids, unk_token=UNKNOWN, max_input_chars_per_word=_MAX_WORD_CHARACTERS)
        self._tokenizer = Tokenizer(model)
        self._tokenizer.normalizer = _normalizer()
        self._tokenizer.pre_tokenizer = BertPreTokenizer()
        self._tokenizer.post_processor = BertProcessing((END, ids[END]), (START, ids[START]))
        # A text that spells "[SEP]" gets that token, as in the reference tokenisers.
        self._tokenizer.add_special_tokens(list(SPECIAL_TOKENS))

    def __len__(self) -> int:
        return len(self.tokens)

    def token_id(self, token: str) -> int:
        """The id of a token that is in the vocabulary."""
        return self._ids[token]

    def encode(self, texts: Sequence[str], max_tokens: int = 20) -> tuple[np.ndarray, np.ndarray]:
        """Token ids of a batch of texts, end to end.

        Args:
            texts: N texts.
            max_tokens: longest row, [CLS] and [SEP] included; the first max_tokens - 2 pieces stay.

        Returns:
            int32 [total] ids, each text as [CLS] ... [SEP]; int64 [N] lengths.
        """
        assert max_tokens >= 2
        self._tokenizer.enable_truncation(max_tokens)
        rows = [row.ids for row in self._tokenizer.encode_batch_fast(list(texts))]
        lengths = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
        ids = np.fromiter((i for row in rows for i in row), dtype=np.int32, count=int(lengths.sum()))
        return ids, lengths

    def encode_one(self, text: str, max_tokens: int = 20) -> np.ndarray:
        """Token ids of one text, int32 [L]."""
        return self.encode([text], max_tokens)[0]

    def decode(self, ids: Iterable[int]) -> str:
        """Readable text: special tokens left out, continued pieces joined to their word."""
        pieces = [self.tokens[int(i)] for i in ids]
        words = [piece for piece in pieces if piece not in (PAD, START, END)]
        return " ".join(words).replace(f" {_CONTINUED}", "")


def _normalizer() -> BertNormalizer:
    return BertNormalizer(clean_text=True, handle_chinese_chars=True, strip_accents=True, lowercase=True)


def read_vocabulary(path: str | Path) -> WordPieceTokenizer:
    """The tokeniser of a vocab.txt: one token a line, id = line number from 0.

    Raises:
        DataError: the file is missing, not UTF-8, or not a BERT vocabulary.
    """
    try:
        lines = Path(path).read_bytes().decode("utf-8").split("\n")
    except OSError as error:
        raise explain_os_error(error, path) from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text at byte {error.start}. Fetch the file again.") from error
    if lines and lines[-1] == "":
        lines.pop()
    return WordPieceTokenizer([line.rstrip("\r") for line in lines], str(path))


def write_vocabulary(tokens: Sequence[str], path: str | Path) -> None:
    """Writes a vocab.txt."""
    atomic_write_text(path, "".join(f"{token}\n" for token in tokens))


def train_vocabulary(texts: Iterable[str], size: int, min_count: int = 2) -> list[str]:
    """A WordPiece vocabulary learnt from texts, the same for the same texts in any order.

    Starts from single characters and joins the most frequent pair of neighbouring pieces until
    the vocabulary is full or no pair occurs `min_count` times; of equally frequent pairs the
    alphabetically first is joined.

    Args:
        texts: raw texts.
        size: most tokens, special ones included.
        min_count: how often a pair must occur.

    Returns:
        The special tokens, the characters (alone and continuing a word), then the joined pieces in
        the order of joining.

    Raises:
        DataError: there is no text, or `size` does not hold the characters.
    """
    words = _count_words(texts)
    if not words:
        raise DataError("No text to train a vocabulary on. Check the text files.")
    pieces = [[word[0], *(_CONTINUED + letter for letter in word[1:])] for word in words]
    letters = sorted({letter for word in words for letter in word})
    # Both forms of each letter, so that no word of these letters is ever unknown.
    alphabet = [*letters, *(_CONTINUED + letter for letter in letters)]
    if len(SPECIAL_TOKENS) + len(alphabet) > size:
        raise DataError(
            f"A vocabulary of {size} tokens does not hold the {len(SPECIAL_TOKENS)} special tokens and"
            f" {len(alphabet)} forms of the texts' characters. Raise the vocabulary size."
        )
    joined = _join_pairs(pieces, list(words.values()), size - len(SPECIAL_TOKENS) - len(alphabet), min_count)
    seen = {*SPECIAL_TOKENS, *alphabet}
    return [*SPECIAL_TOKENS, *alphabet, *(piece for piece in joined if piece not in seen)]


def _count_words(texts: Iterable[str]) -> dict[str, int]:
    """Words after normalising, with their counts, sorted; over-long ones would be [UNK] anyway."""
    normalizer, splitter = _normalizer(), BertPreTokenizer()
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(word for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text)))
    return {word: counts[word] for word in sorted(counts) if len(word) <= _MAX_WORD_CHARACTERS}


def _join_pairs(words: list[list[str]], counts: list[int], room: int, min_count: int) -> list[str]:
    """The pieces made by joining, at most `room` of them; changes `words`."""
    Pair = tuple[str, str]
    totals: Counter[Pair] = Counter()
    holders: defaultdict[Pair, set[int]] = defaultdict(set)
    for number, word in enumerate(words):
        for pair in zip(word, word[1:], strict=False):
            totals[pair] += counts[number]
            holders[pair].add(number)
    heap = [(-total, pair) for pair, total in totals.items()]
    heapq.heapify(heap)
    made: dict[str, None] = {}
    while heap and len(made) < room:
        negative, pair = heapq.heappop(heap)
        if -negative != totals[pair]:  # an older count of this pair
            continue
        if -negative < min_count:
            break
        whole = pair[0] + pair[1].removeprefix(_CONTINUED)
        made[whole] = None
        changed: set[Pair] = set()
        for number in sorted(holders.pop(pair)):
            word = words[number]
            for old in zip(word, word[1:], strict=False):
                totals[old] -= counts[number]
                holders[old].discard(number)
                changed.add(old)
            word = words[number] = _join(word, pair, whole)
            for new in zip(word, word[1:], strict=False):
                totals[new] += counts[number]
                holders[new].add(number)
                changed.add(new)
        for other in changed:
            if totals[other] > 0:
                heapq.heappush(heap, (-totals[other], other))
    return list(made)


def _join(word: list[str], pair: tuple[str, str], whole: str) -> list[str]:
    result: list[str] = []
    position = 0
    while position < len(word):
        if position + 1 < len(word) and (word[position], word[position + 1]) == pair:
            result.append(whole)
            position += 2
        else:
            result.append(word[position])
            position += 1
    return result
