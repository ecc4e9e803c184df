"""Colours for light and dark. They are those of Okabe and Ito, which the colour-blind can tell apart, and scales of
them.

A curve is told from its neighbours by its dashes or its symbols too, never by its colour alone.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Palette:
    """One mode."""

    dark: bool
    text: str
    muted: str
    grid: str
    card: str
    blue: str
    orange: str
    green: str
    red: str
    purple: str
    sky: str
    heat: tuple[str, ...]
    """Little to much."""
    ratios: tuple[str, ...]
    """The 13 ratio buckets: blue below 1, orange above, the paler the nearer to 1."""

    @property
    def lines(self) -> tuple[str, ...]:
        """Colours for curves of one kind, such as the curves of several jobs."""
        return (self.blue, self.orange, self.green, self.purple, self.red, self.sky)


LIGHT = Palette(
    dark=False,
    text="#17202b",
    muted="#5a6675",
    grid="#e6eaef",
    card="#ffffff",
    blue="#0072b2",
    orange="#d98200",
    green="#009e73",
    red="#c44e00",
    purple="#b4578c",
    sky="#3f9fd6",
    heat=("#eef4f9", "#c3dcee", "#86bbdd", "#4093c6", "#0f6ba8", "#083d66"),
    ratios=(
        "#08306b", "#1c5a9c", "#3a7fbd", "#6ba3d0", "#9dc3e0", "#c6d9e8",
        "#eddcc4", "#f3c68d", "#eeaa57", "#e08e2b", "#c77212", "#a05507", "#6f3903",
    ),
)  # fmt: skip

DARK = Palette(
    dark=True,
    text="#e7edf3",
    muted="#9aa8b7",
    grid="#26303b",
    card="#161d25",
    blue="#56b4e9",
    orange="#f0a830",
    green="#2cc796",
    red="#ff8a4c",
    purple="#dd94be",
    sky="#9fd3f2",
    heat=("#1a2733", "#17415f", "#17618f", "#2c86bf", "#63b1e2", "#c4e4f8"),
    ratios=(
        "#9fd0f5", "#7ebbec", "#5da4df", "#428bc9", "#356fa3", "#31536f",
        "#5e4a33", "#8a6530", "#b37f2d", "#d69834", "#efb04b", "#f8c677", "#fddca9",
    ),
)  # fmt: skip


def palette(dark: bool) -> Palette:
    """That of a mode."""
    return DARK if dark else LIGHT
