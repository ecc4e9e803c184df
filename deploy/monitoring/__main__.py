"""Write dashboards, alert rules and the page of metrics: `python -m deploy.monitoring`."""

from __future__ import annotations

from deploy.monitoring.files import ROOT, files


def main() -> None:
    for path, text in files().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
