"""Run the command ``lstm-ext`` as a process of its own."""

import os
import shutil
import subprocess
import sys
import sysconfig

import lstm_ext

INSTALLED = shutil.which("lstm-ext", path=sysconfig.get_path("scripts"))
# -P: what is installed, not what lies in the working directory.
MODULE = [sys.executable, "-P", "-m", "lstm_ext"]
COMMAND = [INSTALLED] if INSTALLED else MODULE

def run(*arguments, command=COMMAND, **options):
    environment = os.environ | {"PYTHONIOENCODING": "utf-8"}
    if not INSTALLED:
        environment["PYTHONPATH"] = os.path.dirname(os.path.dirname(lstm_ext.__file__))
    return subprocess.run(
        [*command, *arguments], capture_output=True, timeout=300, check=False, encoding="utf-8",
        env=environment, **options,
    )
