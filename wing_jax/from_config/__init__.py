"""From names to objects: the one place that a config passes on its way to a training.

Above it are the command line and what repeats the paper; below it nothing takes a config.
"""
