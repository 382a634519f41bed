"""Import the helpers of benchmarks/ for the scripts in this folder."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))

from report import arguments as arguments
from report import publish as publish
from report import table as table
