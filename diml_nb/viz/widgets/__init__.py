"""Explorers for notebooks, made of ipywidgets and anywidget."""
