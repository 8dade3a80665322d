"""Hostile octets, made by the thousand, for every reader of what somebody else wrote.

    PYTHONPATH=tests python -m fuzz                       the targets
    PYTHONPATH=tests python -m fuzz core --seconds 60     coverage-guided, with atheris
    PYTHONPATH=tests python -m fuzz core FILE...          these inputs again, without it

The rules:
  - a target is a pure function of octets: it reads them, and what it read has properties;
  - a reader raises LiaisonError and nothing else, within LONGEST seconds of processor time and MOST octets of memory;
  - what was read is written again as the same octets, or, where there are several spellings, reads again as the same;
  - where a signature, a digest or a proof would stop every change, the target takes it as given, and fuzzes behind it;
  - seeds are made by the builders of the tests and read from their vectors; none is kept.

`tests/test_fuzz.py` runs each target over its seeds and some hundred changes of them, and counts that no reader was left
out.
"""
