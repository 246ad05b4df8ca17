"""The site: Sphinx, MyST and executed notebooks. `make docs` builds it; nothing is fetched from the net."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import scalesearch

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "_ext")]

project = "scalesearch"
author = "The scalesearch authors"
project_copyright = f"2026, {author}"
version = release = scalesearch.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_design",
    "generated_reference",
    "paper_tables",
    "executed_notebooks",
]
exclude_patterns = ["_build", "_ext", "**/.ipynb_checkpoints"]

# Pages are MyST Markdown; those that begin with a jupytext header are executed.
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath", "fieldlist"]
myst_heading_anchors = 4
nb_execution_mode = "cache"
nb_execution_cache_path = str(HERE / "_build" / "jupyter_cache")
nb_execution_raise_on_error = True
nb_execution_in_temp = True
nb_execution_timeout = 300
nb_number_source_lines = False
# Executed pages call `scalesearch` and write into a folder of the build.
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
os.environ["COLUMNS"] = "104"

# Signatures name types that have no page here, of this package and of others: only links between pages must resolve.
nitpick_ignore_regex = [("py:.*", ".*")]
autodoc_member_order = "bysource"
toc_object_entries = False
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
default_role = "code"  # docstrings write `name` for code

html_theme = "sphinx_book_theme"
html_title = "scalesearch"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "home_page_in_toc": False,
    "show_toc_level": 2,
    "use_download_button": False,
    "use_fullscreen_button": False,
}
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
copybutton_exclude = ".linenos, .gp, .go"
