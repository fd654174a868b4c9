"""Reads `cargo metadata` and prints the folder of sources of the cudarc that is linked, among those that are there."""

import json
import pathlib
import sys

metadata = json.load(sys.stdin)
linked = {node["id"] for node in metadata["resolve"]["nodes"] if "dynamic-linking" in node["features"]}
(package,) = [package for package in metadata["packages"] if package["name"] == "cudarc" and package["id"] in linked]
print(pathlib.Path(package["manifest_path"]).parent / "src")
