"""Pictures, plots, tables and the page that show how good a model is."""
