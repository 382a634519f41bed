"""Import the helpers of benchmarks/ for the scripts in this folder."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))

from comparison import RIVALS_MISSING as RIVALS_MISSING
from comparison import RIVALS_PYTHON as RIVALS_PYTHON
from comparison import command as command
from comparison import environment as environment
from comparison import say as say
from report import arguments as arguments
from report import publish as publish
from report import table as table
