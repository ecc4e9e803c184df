"""Completion token ids to the text a grader sees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from services.trajectories.codec import MalformedMessage, read_ints
from sspo_proto.trajectory_pb2 import Trajectory


class CompletionDecoder:
    """Decodes with one model's tokenizer: stop token stripped, special tokens left out, spaces as they are."""

    def __init__(self, model_folder: Path) -> None:
        if (model_folder / "tokenizer.json").is_file():
            # Loads without torch, which AutoTokenizer would bring into every reward worker.
            from transformers import PreTrainedTokenizerFast as Tokenizer
        else:
            from transformers import AutoTokenizer as Tokenizer
        self._tokenizer: Any = Tokenizer.from_pretrained(model_folder, local_files_only=True)

    def text(self, trajectory: Trajectory, stop_token_ids: frozenset[int]) -> str:
        """The completion's text. Raises MalformedMessage for ids that no vocabulary has."""
        ids = [int(token) for token in read_ints(trajectory.completion_token_ids)]
        if min(ids) < 0:
            raise MalformedMessage("a negative token id")
        if ids[-1] in stop_token_ids:
            ids.pop()
        return str(self._tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))
