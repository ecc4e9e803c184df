"""What a small model might say, with its rewards."""

from __future__ import annotations

PROMPT = (
    "Anna has 3 boxes with 12 pencils each. She gives 9 pencils to her brother. "
    "How many pencils does she keep? Think step by step, then answer in the last line."
)

ANSWERS = (
    (1.0, "Three boxes of 12 make 3 * 12 = 36 pencils . She gives away 9 , so 36 - 9 = 27 are left .\nAnswer: 27"),
    (1.0, "First count the pencils : 12 + 12 + 12 = 36 .\nThen take 9 away : 36 - 9 = 27 .\nAnswer: 27"),
    (
        0.0,
        "She has 12 pencils and gives 9 to her brother , so 12 - 9 = 3 . With 3 boxes it is 9 .\nAnswer: 9",
    ),
    (1.0, "36 pencils in all , 9 are given away , she keeps 27 .\nAnswer: 27"),
    (0.0, "There are 3 * 12 = 36 pencils . Her brother gets 9 in each box , so 36 - 27 = 9 .\nAnswer: 9"),
    (0.0, "Boxes and pencils together are 15 . 15 - 9 = 6 .\nAnswer: 6"),
)
