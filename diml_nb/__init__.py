"""Interpretable deep metric learning by structural matching (DIML, ICCV 2021).

The names that people use, each imported when it is first asked for, so that `import diml_nb` loads
neither torch nor matplotlib::

    from diml_nb import extract_feature_maps, get_backbone, grid_features, match

    features = grid_features(extract_feature_maps(["a.jpg", "b.jpg"], get_backbone()))
    result = match(features[0], features[1])
    result.similarity_b, result.contribution_bnm

Everything else is found in the packages, lowest first: `features` (images, networks, feature maps),
`ot` (cost, marginals, Sinkhorn, matching), `retrieval` (search, re-ranking, metrics), `datasets`,
`learning` (losses, training, evaluation), `explain`, `viz` (figures, pages, widgets), `experiments`
(records and their runs) and `related` (systems of other papers).
"""

from importlib import import_module

__version__ = "0.2.0"

_PUBLIC = {
    "_internal.paths": "data_dir",
    "features.images": "load_image",
    "features.backbones": "Backbone get_backbone",
    "features.grid": "Features grid_features",
    "features.cache": "extract_feature_maps",
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
    "explain.faithfulness": "faithfulness",
    "explain.truth": "flow_accuracy",
    "viz.figures": "plot_flows save_figure",
    "viz.html": "export_html",
    "viz.widgets.pair": "PairExplorer",
    "viz.widgets.ranking": "RetrievalExplorer",
    "viz.widgets.sinkhorn": "SinkhornExplorer",
    "viz.widgets.steps": "StepByStep",
}
_MODULE_OF = {name: module for module, names in _PUBLIC.items() for name in names.split()}

__all__ = ["__version__", *_MODULE_OF]


def __getattr__(name: str):
    "Import a public name when it is asked for (PEP 562)."
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'diml_nb' has no attribute {name!r}")
    value = getattr(import_module(f"diml_nb.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
