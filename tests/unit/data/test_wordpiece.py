"""WordPiece: equal to the reference tokeniser on tricky text, and a trainer that repeats itself."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys

import numpy as np
import pytest

from lxmert.cli import main
from lxmert.data.wordpiece import (
    SPECIAL_TOKENS,
    WordPieceTokenizer,
    read_vocabulary,
    train_vocabulary,
    write_vocabulary,
)
from lxmert.errors import DataError

TRICKY = [
    "What's the man's colour?",
    "",
    "   ",
    "naïve café ÀÉÎ Ångström",
    "日本語のテキスト and 中文",
    "a\u0000b\u200bc\ufffd\x07d",
    "tab\tnew\nline\r\nnbsp\u00a0thin\u2009",
    "[SEP] hello [MASK]x [CLS]",
    "x" * 100 + " " + "y" * 101,
    "emoji 😀! ™ © ½",
    "don't 10,000 $5.50 50% (a+b)=c/d_e-f `g` ~h^",
    "a b c d e f g h i j k l m n o p q r s t u v",
    "İstanbul ß ﬁ ǅ ΑΣ",
    "unaffable antidisestablishmentarianism",
    "\ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16"),
    "Wi-Fi's “quoted” — dash… ‘x’",
    "\u0301combining first, e\u0301 composed",
]


@pytest.fixture(scope="module")
def bert(shared_data):
    return read_vocabulary(shared_data / "bert" / "vocab.txt")


@pytest.fixture(scope="module")
def reference(shared_data):
    transformers = pytest.importorskip("transformers")
    return transformers.BertTokenizerFast.from_pretrained(shared_data / "bert")


@pytest.mark.parametrize("max_tokens", [20, 512])
def test_equal_to_the_reference(bert, reference, max_tokens):
    rng = random.Random(3)
    alphabet = "".join(TRICKY) + "abcdefghij  .,'"
    texts = TRICKY + ["".join(rng.choices(alphabet, k=rng.randint(1, 80))) for _ in range(300)]
    wanted = reference(texts, truncation=True, max_length=max_tokens)["input_ids"]
    ids, lengths = bert.encode(texts, max_tokens)
    assert ids.dtype == np.int32 and lengths.dtype == np.int64
    rows = np.split(ids, np.cumsum(lengths)[:-1])
    for text, row, reference_row in zip(texts, rows, wanted, strict=True):
        assert row.tolist() == reference_row, text


def test_bert_ids(bert):
    assert len(bert) == 30522
    assert [bert.token_id(token) for token in SPECIAL_TOKENS] == [0, 100, 101, 102, 103]
    row = bert.encode_one("a b c d e f g h i j k l m n o p q r s t")
    # The first 18 pieces stay between [CLS] and [SEP].
    assert len(row) == 20 and row[0] == 101 and row[-1] == 102
    assert bert.decode(row) == "a b c d e f g h i j k l m n o p q r"
    assert bert.decode(bert.encode_one("Unaffable kites!")) == "una##ffa##ble kites !".replace("##", "")


def tiny() -> WordPieceTokenizer:
    return WordPieceTokenizer([*SPECIAL_TOKENS, "red", "kit", "##e", "##es"])


def test_no_text_and_unknown_words():
    ids, lengths = tiny().encode([])
    assert len(ids) == 0 and len(lengths) == 0
    assert tiny().encode_one("").tolist() == [2, 3]
    assert tiny().encode_one("Red kites blue").tolist() == [2, 5, 6, 8, 1, 3]
    assert tiny().encode_one("red red red", 2).tolist() == [2, 3]
    assert tiny().encode_one("red red red", 4).tolist() == [2, 5, 5, 3]


def test_faulty_vocabularies(tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join([*SPECIAL_TOKENS, "a", "a"]) + "\n")
    with pytest.raises(DataError, match="vocab.txt: token 'a' occurs twice"):
        read_vocabulary(path)
    path.write_text("a\nb\n")
    with pytest.raises(DataError, match=r"\[PAD\], \[UNK\]"):
        read_vocabulary(path)
    path.write_text("\n".join(["a", *SPECIAL_TOKENS]))
    with pytest.raises(DataError, match=r"\[PAD\] is token 1"):
        read_vocabulary(path)
    path.write_bytes(b"\xff\n")
    with pytest.raises(DataError, match="not UTF-8"):
        read_vocabulary(path)
    with pytest.raises(DataError, match="no such file"):
        read_vocabulary(tmp_path / "none")


def test_line_ends_of_another_system(tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_bytes("\r\n".join([*SPECIAL_TOKENS, "a", ""]).encode())
    assert read_vocabulary(path).tokens == [*SPECIAL_TOKENS, "a"]


TEXTS = ["A red kite, two red kites.", "The kite is red!", "Which kites fly? red ones do"] * 3


def test_training_learns_whole_words_first():
    tokens = train_vocabulary(TEXTS, 200)
    assert tokens[:5] == list(SPECIAL_TOKENS)
    assert {"red", "kite", "kites", "fly", ",", "##k", "k"} <= set(tokens)
    assert len(set(tokens)) == len(tokens)
    tokenizer = WordPieceTokenizer(tokens)
    assert tokenizer.decode(tokenizer.encode_one("Red kites, fly!")) == "red kites , fly !"
    # Letters in places where training never saw them are still no unknown words.
    assert 1 not in tokenizer.encode_one("derk etik")


def test_training_keeps_to_its_size_and_order():
    small, large = train_vocabulary(TEXTS, 60), train_vocabulary(TEXTS, 70)
    assert len(small) <= 60 and large[: len(small)] == small
    assert train_vocabulary(TEXTS[::-1], 70) == large
    assert train_vocabulary((text for text in TEXTS), 70) == large


def test_training_in_another_process_gives_the_same(tmp_path):
    script = (
        "import sys, json; from lxmert.data.wordpiece import train_vocabulary;"
        "print(json.dumps(train_vocabulary(json.load(sys.stdin), 90)))"
    )
    outputs = set()
    for seed in ("0", "1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "RAYON_NUM_THREADS": str(1 + int(seed))}
        outputs.add(
            subprocess.run(
                [sys.executable, "-c", script],
                input=json.dumps(TEXTS),
                env=environment,
                capture_output=True,
                text=True,
                check=True,
            ).stdout
        )
    assert len(outputs) == 1 and json.loads(outputs.pop()) == train_vocabulary(TEXTS, 90)


def test_training_says_what_is_missing():
    with pytest.raises(DataError, match="No text"):
        train_vocabulary(["", "  "], 100)
    with pytest.raises(DataError, match="Raise the vocabulary size"):
        train_vocabulary(TEXTS, 20)


def test_pairs_inside_one_letter_words():
    assert "aa" in train_vocabulary(["aaaa aaaa aa aa"], 50) and "aaaa" in train_vocabulary(["aaaa"] * 3, 50)


def run_verb(spec, texts, out) -> int:
    return main(["vocabulary", "--spec", json.dumps(spec), "--texts", *map(str, texts), "--out", str(out)])


def test_the_verb_reads_official_files(tmp_path):
    files = {
        "q.json": {"info": {"question": 3}, "questions": [{"question": "aaa"}, {"question": "aaa"}]},
        "c.json": {"images": [{"id": 1}], "annotations": [{"caption": "bbb"}, {"caption": "bbb"}]},
        "v.json": [
            {"regions": [{"phrase": "ccc"}, {"phrase": "ccc"}]},
            {"qas": [{"question": "ddd", "answer": "zzz"}]},
        ],
        "g.json": {"01": {"question": "ddd", "annotations": {"question": {"1": "yyy"}}}},
    }
    paths = []
    for name, value in files.items():
        paths.append(tmp_path / name)
        paths[-1].write_text(json.dumps(value))
    paths.append(tmp_path / "n.json")
    paths[-1].write_text('{"sentence": "eee"}\n{"sentence": "eee"}\n')
    out = tmp_path / "vocab.txt"
    assert run_verb({"size": 100}, paths, out) == 0
    assert {"aaa", "bbb", "ccc", "ddd", "eee"} <= set(out.read_text().split())
    assert not {"z", "y"} & set(out.read_text().split())
    before = out.read_bytes()
    assert run_verb({"size": 100}, paths[::-1], out) == 0 and out.read_bytes() == before


def test_the_verb_takes_a_given_vocabulary_as_it_is(tmp_path, capsys):
    given, out = tmp_path / "given.txt", tmp_path / "vocab.txt"
    write_vocabulary(tiny().tokens, given)
    assert run_verb({"train": False, "size": 9}, [given], out) == 0
    assert out.read_bytes() == given.read_bytes()
    assert run_verb({"train": False, "size": 10}, [given], out) == 2
    assert "9 tokens where 10 are expected" in capsys.readouterr().err
