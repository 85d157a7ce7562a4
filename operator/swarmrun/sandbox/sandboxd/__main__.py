"""Lets `python3 -I /opt/swarmrun/sandboxd …` start the package from its directory, without an installation."""

import importlib
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.dont_write_bytecode = True
sys.exit(
    importlib.import_module(os.path.basename(os.path.dirname(os.path.abspath(__file__))) + ".main").main()
)
