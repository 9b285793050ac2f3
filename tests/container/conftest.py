"""The load of the process tests is that of these, too."""

import sys

from harness import ROOT

sys.path.append(str(ROOT / "tests" / "process"))
