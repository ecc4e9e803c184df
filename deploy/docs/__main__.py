"""Write docs/job.md and docs/job.schema.json: `python -m deploy.docs`."""

from __future__ import annotations

from deploy.docs.files import ROOT, files


def main() -> None:
    for path, text in files().items():
        path.write_text(text)
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
