"""Phrases that the writing rules replace, where a list of single words cannot find them."""

import re

from repository import ROOT, repository_files

PHRASES = {
    r"data sets?\b": "dataset",
    r"\bat hand\b": "available",
    r"\bby heart\b": "overfits",
    r"\bto the letter\b": "exact reproduction",
    r"\bgo(?:es)? on (?:from|with|where)\b": "resume, continue",
    r"\bsource sites?\b": "start site",
    r"\bshipped\b": "pretrained",
}
# Where a phrase is quoted.
QUOTES = {"tests/project/test_language.py"}


def findings(text):
    """Return the phrases found in a text, with their lines."""
    return [
        f"line {number}: {match.group()!r}, write {replacement!r}"
        for number, line in enumerate(text.splitlines(), start=1)
        for phrase, replacement in PHRASES.items()
        if (match := re.search(phrase, line, re.IGNORECASE))
    ]


def test_phrases_are_found():
    assert findings("Two data sets\nare at hand.") == [
        "line 1: 'data sets', write 'dataset'",
        "line 2: 'at hand', write 'available'",
    ]


def test_texts_contain_no_replaced_phrase():
    files = repository_files("*.py", "*.md", "*.toml", "Makefile")
    assert len(files) > 100
    found = {
        name: lines
        for path in files
        if (name := path.relative_to(ROOT).as_posix()) not in QUOTES
        and (lines := findings(path.read_text()))
    }
    assert not found
