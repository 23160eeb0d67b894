"""Labels of any kind where classes are drawn and averaged."""

import numpy as np
import pytest
import torch
from random_features import LABELS, uniform

from diml_nb.learning.sampling import sample_balanced_batch, split_classes
from diml_nb.related import (
    cosegmentation as coseg,
    label_autoencoder as keywords,
)


def test_related_takes_labels_of_numpy_too():
    labels = LABELS.numpy()
    assert torch.equal(coseg.pairs_within(labels), coseg.pairs_within(LABELS))
    assert torch.equal(coseg.pairs_across(labels), coseg.pairs_across(LABELS))
    assert torch.equal(
        keywords.class_means(uniform(6, 5), labels), keywords.class_means(uniform(6, 5), LABELS)
    )
    assert torch.equal(split_classes(labels, 0.7)[0], split_classes(LABELS, 0.7)[0])


def test_a_class_that_is_too_small_is_named():
    said = (
        "per_class: expected at most 1, the size of the smallest class, got 2; of the classes"
        " number 1 has 1"
    )
    with pytest.raises(ValueError, match=said):
        sample_balanced_batch([torch.tensor([0, 1]), torch.tensor([7])], 4, 2, seed=0)


def test_positions_of_a_class_may_be_an_array():
    batch = sample_balanced_batch([np.array([0, 1]), np.array([2, 3])], 4, 2, seed=0)
    assert sorted(batch.tolist()) == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="per_class: expected at most 1, .* number 1 has 1"):
        sample_balanced_batch([np.array([0, 1]), np.array([2])], 4, 2, seed=0)
