"""Everything about the package stands in settings.ini; this file only passes it on."""

from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

config = ConfigParser(delimiters=["="])
config.read("settings.ini", encoding="utf-8")
settings = config["DEFAULT"]

setup(
    name=settings["lib_name"],
    version=settings["version"],
    description=settings["description"],
    long_description=Path("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author=settings["author"],
    author_email=settings["author_email"],
    license="Apache-2.0",
    license_files=["LICENSE"],
    keywords=settings["keywords"].split(),
    packages=find_packages(include=[settings["lib_name"], settings["lib_name"] + ".*"]),
    package_data={
        settings["lib_name"]: ["*/*.c", "*/*.h", "py.typed"],
        settings["lib_name"] + ".viz": ["static/*.js", "static/*.css", "static/*.html"],
    },
    python_requires=">=" + settings["min_python"],
    install_requires=settings["requirements"].split(),
    extras_require={"dev": settings["dev_requirements"].split()},
    entry_points={
        "console_scripts": settings["console_scripts"].split(),
        "nbdev": [settings["lib_name"] + "=" + settings["lib_name"] + "._modidx:d"],
    },
)
