"""
Give the tests an Airflow home of their own, before anything imports Airflow: it reads the variable once.

Whatever home the person who runs them has is left alone. Workers of pytest-xdist share the controller's.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile

_MARK = "HFREG_TESTS_AIRFLOW_HOME"

if _MARK not in os.environ:
    os.environ[_MARK] = tempfile.mkdtemp(prefix="hfreg-airflow-")
    atexit.register(shutil.rmtree, os.environ[_MARK], ignore_errors=True)
os.environ["AIRFLOW_HOME"] = os.environ[_MARK]
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
