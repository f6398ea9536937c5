"""Print the oldest version that pyproject.toml allows of each library, for `pip install`."""

from pathlib import Path

import tomllib

project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
print(*(each.partition(",")[0].replace(">=", "==") for each in project["dependencies"]))
