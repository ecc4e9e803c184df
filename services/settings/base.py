"""How settings are read, and what an error says."""

from __future__ import annotations

from typing import Any, Self

from pydantic import ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict


class SettingsError(ValueError):
    """The environment lacks something, or says something unusable."""


class Settings(BaseSettings):
    """Read from the environment; what the constructor is given goes before it. An empty variable counts as unset."""

    model_config = SettingsConfigDict(
        env_prefix="SSPO_",
        env_ignore_empty=True,
        frozen=True,
        hide_input_in_errors=True,
        use_attribute_docstrings=True,
    )

    @classmethod
    def read(cls, **given: Any) -> Self:
        """The settings. `given` (by field, None: not given) goes before the environment. Raises SettingsError."""
        try:
            return cls(**{name: value for name, value in given.items() if value is not None})
        except ValidationError as error:
            raise SettingsError("; ".join(cls._problems(error))) from None  # its cause would show values

    @classmethod
    def variable(cls, name: str) -> str:
        """The environment variable of a field."""
        return f"{cls.model_config['env_prefix']}{name.upper()}"

    @classmethod
    def _problems(cls, error: ValidationError) -> list[str]:
        found = []
        for one in error.errors(include_input=False, include_context=False, include_url=False):
            variable = cls.variable(str(one["loc"][0]))
            if one["type"] == "missing":
                found.append(f"{variable} is not set")
            elif one["type"] != "default_factory_not_called":  # a consequence of another one
                found.append(f"{variable}: {one['msg']}")
        return found
