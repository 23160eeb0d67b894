"""The page on which readers match pictures of their own: the network for a browser, its runtime.

`python docs/own_pictures.py FOLDER` makes the page alone, in a new folder. The site has it where
`missing` says nothing.
"""

import argparse
import gzip
import json
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from diml_nb._internal.paths import data_dir, hash_file
from diml_nb.features.backbones import Backbone, get_backbone, weights_hash
from diml_nb.records.provenance import digest
from diml_nb.viz.widgets.own_pictures import own_pictures_html, round_weights

DOCS = Path(__file__).resolve().parent
BROWSER = DOCS / "browser"
DIST = BROWSER / "node_modules" / "onnxruntime-web" / "dist"
RUNTIME, WASM, NETWORK = "runtime.js", "runtime.wasm.gz", "network.onnx.gz"
DRAWINGS = tuple(data_dir() / "emoji" / "pineapple" / f"{x}.png" for x in ("emojione", "noto"))
TOLERANCE = 1e-2  # of a map, whose values are from 0 to 6
SHAPES = ((224, 224), (192, 288), (320, 160))  # height and width of the images that are compared
FEW_WEIGHTS = 4096  # tensors with fewer stay in float32: together 54 KB, and half of the error


def missing() -> str:
    "What the page needs and this machine does not have; empty where it can be made."
    if absent := [name for name in ("onnx", "onnxscript") if not find_spec(name)]:
        return f"{' and '.join(absent)}: pip install -r requirements.txt"
    if not shutil.which("node"):
        return "Node: apt-get install nodejs npm"
    return "" if DIST.is_dir() else "ONNX Runtime: npm ci --ignore-scripts --prefix docs/browser"


def export_network(backbone: Backbone):
    "The network as an ONNX model: images (1, 3, height, width), sides multiples of 32, to a map."
    side = backbone.image_size
    program = torch.onnx.export(
        backbone.eval(),
        (torch.zeros(1, 3, side, side),),
        input_names=["image"],
        output_names=["map"],
        dynamo=True,  # the older exporter gives wrong maps, silently
        verbose=False,
    )
    model = program.model_proto
    forget_the_machine(model)
    free_sides(model.graph)
    return model


def forget_the_machine(model) -> None:
    "Remove notes about the code that was exported; they hold paths of this machine."
    graph = model.graph
    parts = (graph.node, graph.value_info, graph.input, graph.output, graph.initializer)
    for part in (model, graph, *(one for some in parts for one in some)):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    del graph.value_info[:]


def free_sides(graph) -> None:
    """Let the image have any sides: only convolutions, sums and cuts are left, whose padding is
    that of every even side."""
    names = {"image": ("height", "width"), "map": ("rows", "columns")}
    for value in (*graph.input, *graph.output):
        sides = value.type.tensor_type.shape.dim[2:]
        for dimension, name in zip(sides, names[value.name], strict=True):
            dimension.dim_param = name


def store_in_16_bits(model) -> None:
    "Round large weights to 16-bit integers with a scale a channel, widened when they are loaded."
    from onnx import TensorProto, helper, numpy_helper

    graph, widening = model.graph, []
    for tensor in list(graph.initializer):
        weight = numpy_helper.to_array(tensor)
        if weight.ndim != 4 or weight.size < FEW_WEIGHTS:
            continue
        name = tensor.name
        whole, scale = round_weights(torch.from_numpy(weight.copy()))
        tensor.CopyFrom(numpy_helper.from_array(whole.numpy(), f"{name}_whole"))
        graph.initializer.append(numpy_helper.from_array(scale.numpy(), f"{name}_scale"))
        widening += [
            helper.make_node("Cast", [f"{name}_whole"], [f"{name}_wide"], to=TensorProto.FLOAT),
            helper.make_node("Mul", [f"{name}_wide", f"{name}_scale"], [name]),
        ]
    nodes = [*widening, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


@torch.no_grad()
def largest_difference(folder: Path, backbone: Backbone) -> float:
    "Between maps of the page's network, by the page's runtime, and those of PyTorch."
    drawings = sorted((data_dir() / "emoji").glob("*/noto.png"))[:: 100 // len(SHAPES)]
    cases, maps = [], []
    with TemporaryDirectory() as place:
        for k, (height, width) in enumerate(SHAPES):
            image_chw = backbone.preprocess(drawings[k])
            image_bchw = torch.nn.functional.interpolate(image_chw[None], size=(height, width))
            image_bchw.numpy().astype("<f4").tofile(Path(place) / f"{k}.image")
            cases.append(dict(name=str(k), shape=list(image_bchw.shape)))
            maps.append(backbone(image_bchw).numpy().ravel())
        (Path(place) / "cases.json").write_text(json.dumps(cases))
        files = [str(folder / name) for name in (RUNTIME, WASM, NETWORK)]
        command = ["node", str(BROWSER / "maps.js"), *files, place]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise ValueError(
                f"{backbone.name}: the runtime of the page does not run the exported network on"
                f" images of {SHAPES} pixels:\n{done.stderr[-1000:]}"
            )
        theirs = [np.fromfile(Path(place) / f"{k}.map", "<f4") for k in range(len(maps))]
    return max(float(np.abs(x - y).max()) for x, y in zip(maps, theirs, strict=True))


def pack(data: bytes, path: Path) -> None:
    "Write bytes by gzip, the same file each time."
    path.write_bytes(gzip.compress(data, 9, mtime=0))


def make_files(folder: Path, backbone: Backbone) -> None:
    "Runtime and network, in a new folder; `ValueError` unless their maps are those of PyTorch."
    folder.mkdir(parents=True)
    shutil.copy(DIST / "ort.wasm.bundle.min.mjs", folder / RUNTIME)
    pack((DIST / "ort-wasm-simd-threaded.wasm").read_bytes(), folder / WASM)
    model = export_network(backbone)
    store_in_16_bits(model)
    pack(model.SerializeToString(), folder / NETWORK)
    difference = largest_difference(folder, backbone)
    if not difference <= TOLERANCE:
        raise ValueError(
            f"the exported network's maps differ from PyTorch's by {difference:.2g}, at most"
            f" {TOLERANCE} was expected: compare the versions with those of requirements.txt"
        )
    print(f"network for the browser: maps as PyTorch's to {difference:.1e}", flush=True)


def kept_files(build: Path, backbone: Backbone) -> Path:
    "The folder with runtime and network, made unless those of the same weights and tools are kept."
    sources = (
        DOCS / "own_pictures.py",
        DOCS.parent / "diml_nb" / "viz" / "widgets" / "own_pictures.py",  # how weights are rounded
        DOCS.parent / "requirements.txt",
        BROWSER / "package-lock.json",
    )
    made_of = {str(k): hash_file(path) for k, path in enumerate(sources)}
    kept = build / f"network-{digest(made_of | dict(weights=weights_hash(backbone)))}"
    if not kept.exists():
        with TemporaryDirectory(dir=build) as place:
            make_files(Path(place) / "files", backbone)
            try:
                (Path(place) / "files").rename(kept)
            except OSError:  # another process has made the same one meanwhile
                if not kept.is_dir():
                    raise
    return kept


def write_page(folder: Path, build: Path, back: str = "", name: str = "efficientnet_lite0") -> None:
    """The page and all that it needs, in a new folder.

    `build` keeps runtime and network; `back` is a link to where the page is explained; `name` is
    that of a network, as `get_backbone` takes it.
    """
    backbone = get_backbone(name)
    build.mkdir(parents=True, exist_ok=True)
    shutil.copytree(kept_files(build, backbone), folder)
    parts = [dict(address=file, bytes=(folder / file).stat().st_size) for file in (WASM, NETWORK)]
    page = own_pictures_html(dict(runtime=RUNTIME, parts=parts), backbone, DRAWINGS, back=back)
    (folder / "index.html").write_text(page, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, help="the folder to make")
    parser.add_argument("--backbone", default="efficientnet_lite0", help="a network by its name")
    options = parser.parse_args()
    reason = f"it needs {missing()}" if missing() else ""
    if options.folder.exists():
        reason = f"{options.folder} is there already: name another folder"
    if reason:
        sys.exit(f"own_pictures.py: {reason}")
    write_page(options.folder, DOCS.parent / "build" / "docs", name=options.backbone)


if __name__ == "__main__":
    main()
