# SPDX-License-Identifier: GPL-3.0-or-later
"""Sphinx configuration. scripts/build_docs.py adds the generated reference pages and runs the build."""

project = "uptier.platform"
author = "The uptier.platform authors"
copyright = author

extensions = ["myst_parser"]
myst_enable_extensions = ["colon_fence", "deflist", "fieldlist"]
myst_heading_anchors = 4
suppress_warnings = ["myst.header", "toc.empty_glob"]
exclude_patterns = ["_build"]
nitpicky = True

html_theme = "furo"
html_title = "uptier.platform"
html_static_path = ["_static"]
html_css_files = ["platform.css"]
html_show_sphinx = False
html_copy_source = False
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#4c2bb8", "color-brand-content": "#4c2bb8"},
    "dark_css_variables": {"color-brand-primary": "#a78bfa", "color-brand-content": "#a78bfa"},
}
