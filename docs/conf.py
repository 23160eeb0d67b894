"Sphinx on what book.py has staged. Nothing that a page needs comes from elsewhere."

from importlib.resources import files

project = "diml_nb"
copyright = "2026, the diml_nb authors"
extensions = ["myst_nb"]

nb_execution_mode = "off"  # book.py has executed them
nb_ipywidgets_js = {}  # they would come from a CDN
nb_render_markdown_format = "myst"
nb_code_prompt_show = nb_code_prompt_hide = "the code of this output"
myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3
mathjax_path = "tex-svg-full.js"  # one file, its glyphs included

html_theme = "furo"
html_title = "diml_nb"
html_static_path = [
    "custom.css",
    str(files("mathjax") / "static" / "mathjax" / "es5" / mathjax_path),
]
html_css_files = ["custom.css"]
html_favicon = "../data/emoji/sailboat/noto.png"
html_copy_source = False
html_use_index = False
pygments_style, pygments_dark_style = "friendly", "github-dark"
