"""Interpretable deep metric learning by structural matching (DIML, ICCV 2021).

The names that people use, each imported when it is first asked for, so that `import diml_nb` loads
neither torch nor matplotlib. Three lines search a folder of photographs, and explain a hit::

    from diml_nb import Matcher

    hits = Matcher.from_pretrained().index("photos").search("query.jpg")
    hits[0].explain("why.html")

The same by its steps, for one pair::

    from diml_nb import extract_feature_maps, get_backbone, grid_features, match

    features = grid_features(extract_feature_maps(["a.jpg", "b.jpg"], get_backbone()))
    result = match(features[0], features[1])
    result.similarity_b, result.contribution_bnm

Everything else is found in the packages, lowest first: `features` (images, networks, feature maps),
`ot` (cost, marginals, Sinkhorn, matching), `retrieval` (search, re-ranking, metrics), `datasets`,
`learning` (losses, training, evaluation), `explain`, `viz` (figures, pages, widgets), `matcher`
(the three lines), `experiments` (records and their runs) and `related` (systems of other papers).
"""

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.2.0"

_PUBLIC = {
    "_internal.paths": "data_dir",
    "features.images": "load_image",
    "features.backbones": "Backbone get_backbone",
    "features.grid": "Features grid_features",
    "features.cache": "extract_feature_maps",
    "features.compress": "fit_projection pack_features",
    "features.store": "open_store write_store",
    "ot.marginals": "MARGINAL_RULES compute_marginals",
    "ot.sinkhorn": "sinkhorn",
    "ot.matching": "Match match similarity_matrix",
    "retrieval.metrics": "Ranking retrieval_metrics",
    "retrieval.search": "search",
    "retrieval.rerank": "rerank",
    "datasets.dataset": "ImageDataset",
    "datasets.folders": "load_csv load_folder",
    "datasets.registry": "get_dataset",
    "datasets.prepare": "prepare_dataset",
    "learning.distances": "StructuralEuclideanDistance StructuralSimilarity",
    "learning.losses": "MapLoss make_loss",
    "learning.evaluation": "evaluate_retrieval",
    "learning.config": "TrainConfig",
    "learning.trainer": "load_trained train",
    "learning.trained": "TrainedBackbone evaluate_once",
    "explain.decomposition": "decompose flow_table score_difference",
    "explain.parts": "parts query_parts",
    "explain.faithfulness": "faithfulness",
    "explain.truth": "flow_accuracy",
    "viz.figures": "plot_flows save_figure",
    "viz.part_figures": "plot_parts",
    "viz.html": "export_html",
    "viz.widgets.pair": "PairExplorer",
    "viz.widgets.ranking": "RetrievalExplorer",
    "viz.widgets.sinkhorn": "SinkhornExplorer",
    "viz.widgets.steps": "StepByStep",
    "matcher.rule": "Rule",
    "matcher.index": "Index",
    "matcher.matcher": "Matcher open_index",
}
_MODULE_OF = {name: module for module, names in _PUBLIC.items() for name in names.split()}

__all__ = ["__version__", *_MODULE_OF]

if TYPE_CHECKING:  # what an editor is told; at run time, see `__getattr__`
    from ._internal.paths import data_dir as data_dir
    from .features.images import load_image as load_image
    from .features.backbones import Backbone as Backbone, get_backbone as get_backbone
    from .features.grid import Features as Features, grid_features as grid_features
    from .features.cache import extract_feature_maps as extract_feature_maps
    from .features.compress import (
        fit_projection as fit_projection,
        pack_features as pack_features,
    )
    from .features.store import open_store as open_store, write_store as write_store
    from .ot.marginals import (
        MARGINAL_RULES as MARGINAL_RULES,
        compute_marginals as compute_marginals,
    )
    from .ot.sinkhorn import sinkhorn as sinkhorn
    from .ot.matching import Match as Match, match as match, similarity_matrix as similarity_matrix
    from .retrieval.metrics import Ranking as Ranking, retrieval_metrics as retrieval_metrics
    from .retrieval.search import search as search
    from .retrieval.rerank import rerank as rerank
    from .datasets.dataset import ImageDataset as ImageDataset
    from .datasets.folders import load_csv as load_csv, load_folder as load_folder
    from .datasets.registry import get_dataset as get_dataset
    from .datasets.prepare import prepare_dataset as prepare_dataset
    from .learning.distances import (
        StructuralEuclideanDistance as StructuralEuclideanDistance,
        StructuralSimilarity as StructuralSimilarity,
    )
    from .learning.losses import MapLoss as MapLoss, make_loss as make_loss
    from .learning.evaluation import evaluate_retrieval as evaluate_retrieval
    from .learning.config import TrainConfig as TrainConfig
    from .learning.trainer import load_trained as load_trained, train as train
    from .learning.trained import TrainedBackbone as TrainedBackbone, evaluate_once as evaluate_once
    from .explain.decomposition import (
        decompose as decompose,
        flow_table as flow_table,
        score_difference as score_difference,
    )
    from .explain.parts import parts as parts, query_parts as query_parts
    from .explain.faithfulness import faithfulness as faithfulness
    from .explain.truth import flow_accuracy as flow_accuracy
    from .viz.figures import plot_flows as plot_flows, save_figure as save_figure
    from .viz.part_figures import plot_parts as plot_parts
    from .viz.html import export_html as export_html
    from .viz.widgets.pair import PairExplorer as PairExplorer
    from .viz.widgets.ranking import RetrievalExplorer as RetrievalExplorer
    from .viz.widgets.sinkhorn import SinkhornExplorer as SinkhornExplorer
    from .viz.widgets.steps import StepByStep as StepByStep
    from .matcher.rule import Rule as Rule
    from .matcher.index import Index as Index
    from .matcher.matcher import Matcher as Matcher, open_index as open_index


def __getattr__(name: str):
    "Import a public name when it is asked for (PEP 562)."
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'diml_nb' has no attribute {name!r}")
    value = getattr(import_module(f"diml_nb.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
