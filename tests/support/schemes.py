"""A custom scheme, as TOML."""

TABLE = """
name = "mine4"
points = ["left eye", "right eye", "nose", "chin"]
mirrored = [["left eye", "right eye"]]
normalization = ["left eye", "right eye"]
lines = [["left eye", "nose", "right eye"], [2, 3]]
about = "for a test"
"""
