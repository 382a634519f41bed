"""Writers of small data sets in each published format, as input of the readers; without real photos."""
