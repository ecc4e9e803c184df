"""The dashboard at /ui: pages over the same `Service` as the REST routes. NiceGUI is used only here."""
