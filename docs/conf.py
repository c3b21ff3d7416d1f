"""
How the pages become a web site: ``scripts/docs``.

The site needs nothing from elsewhere, neither while it is built nor while it is read.
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

HERE = Path(__file__).parent
# The reference is made of the docstrings, so the package is imported, and Airflow with it: with an own home.
os.environ["AIRFLOW_HOME"] = str(HERE / "_build" / "airflow")
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
logging.getLogger("airflow").setLevel(logging.WARNING)
sys.path[:0] = [str(HERE.parent), str(HERE / "_ext")]

from airflow_async_sm import __version__  # noqa: E402

project = "airflow-async-sm"
author = "The authors of airflow-async-sm"
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.viewcode", "outside", "reference"]
exclude_patterns = ["_build", "_ext"]

# Pages: links lead to headings by GitHub's names for them.
myst_heading_anchors = 4

# Docstrings: what an argument means stands with its type below the signature, in the order of the source.
autodoc_default_options = {"members": True, "exclude-members": "__init__, __new__, handle_type"}
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
add_module_names = False
maximum_signature_line_length = 90
python_use_unqualified_type_names = True
toc_object_entries_show_parents = "hide"

# Every name of this package that is mentioned has to be explained somewhere (sphinx-build -n), but for:
nitpick_ignore_regex = [
    # Python, Airflow, boto3 and the like: their references are elsewhere, and nothing is fetched. Some of
    # these names stand in the code without their module.
    (
        r"py:.*",
        r"(airflow\.(?!async)|argparse|boto3|botocore|collections|concurrent|contextlib|datetime|email|enum|"
        r"logging|os|pathlib|random|threading|types|typing).*",
    ),
    (r"py:.*", r"Airflow\w+(Exception|Timeout)|BaseOperator|Context|Path|PathLike|TaskDecorator|timedelta"),
    # A variable for types and a short name for several types.
    (r"py:class", r"airflow_async_sm\.operators\.base\.AnyHandle|Stand"),
    # What the methods of the hook and of BatchInputs give to operators and triggers, and to nobody else.
    (r"py:class", r"airflow_async_sm\.core\.(answers|buckets)\.\w+"),
    (r"py:class", r"BatchInput|Content|Listed|Observation|ResultCalls|StreamingBody|Unreadable"),
]

html_theme = "furo"
html_title = "airflow-async-sm"
html_copy_source = False
html_show_sphinx = False
html_theme_options = {"navigation_with_keys": True}
