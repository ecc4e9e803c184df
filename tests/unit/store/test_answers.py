"""Redis' answers as text, and figures as strict JSON."""

from __future__ import annotations

import json
import math

from services.store import answers


def test_bytes_become_text_and_text_stays() -> None:
    assert answers.texts([b"a", "b", 3]) == ["a", "b", "3"]
    assert answers.fields({b"a": b"1", "b": "2"}) == {"a": "1", "b": "2"}


def test_figures_that_json_cannot_carry_become_null_at_any_depth() -> None:
    value = {"loss": math.nan, "all": [1.5, -math.inf, (math.inf, 2)], 3: {"kl": math.inf, "name": "x", "none": None}}
    told = {"loss": None, "all": [1.5, None, [None, 2]], "3": {"kl": None, "name": "x", "none": None}}
    assert answers.finite(value) == told and json.loads(answers.dump(value)) == told
    assert answers.dump({"a": [1, 2]}) == '{"a":[1,2]}', "a long job has many such lines"
