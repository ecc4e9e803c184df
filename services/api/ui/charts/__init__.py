"""ECharts options, made of plain figures: no store and no NiceGUI here. A key that begins with ":" holds JavaScript."""
