"""Without the extra, the import says what is missing."""

from __future__ import annotations

import subprocess
import sys


def test_the_error_names_the_extra() -> None:
    code = (
        "import sys\n"
        "sys.modules['anyio'] = None\n"
        "import portkit\n"
        "try: import portkit.aio\n"
        "except ImportError as error: assert 'portkit[aio]' in str(error), error\n"
        "else: raise SystemExit('imported')\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
