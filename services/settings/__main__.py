"""`python -m services.settings`: write docs/settings.md."""

from services.settings.page import PAGE, document

PAGE.write_text(document())
